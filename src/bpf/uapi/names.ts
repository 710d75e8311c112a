/** Names of programs and maps as the kernel takes them. */

/** The kernel keeps 15 characters of letters, digits, '_' and '.'; others become '_'. */
export function objectName(name: string): string {
  return name.replace(/[^A-Za-z0-9_.]/g, '_').slice(0, 15);
}
