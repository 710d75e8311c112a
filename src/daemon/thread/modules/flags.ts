/** What Node.js, or a thread of it, is started with for modules of users: packages are looked for from where they are imported (resolve.ts). */
export const MODULE_FLAGS: readonly string[] = ['--experimental-import-meta-resolve'];
