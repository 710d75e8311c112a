/**
 * What ping says, read so that an answer that is late is not taken for one that is lost: after its last request ping waits for only two of the
 * longest times that it has seen. With a deadline it asks on until it has as many answers as wanted.
 */

/**
 * Arguments of ping that asks until it has `count` answers.
 * @param intervalSeconds between two requests
 * @param deadlineSeconds after which it gives up
 */
export function pingArguments(address: string, count: number, intervalSeconds: number, deadlineSeconds = 10): string[] {
  return ['-n', '-c', `${count}`, '-i', `${intervalSeconds}`, '-w', `${deadlineSeconds}`, address];
}

/**
 * The requests up to the last one answered that have no answer, by sequence number.
 * @param output of ping without `-q`
 * @param count of answers that it was to wait for; those that are missing at the end are lost, too
 */
export function unanswered(output: string, count: number): number[] {
  const answered = new Set([...output.matchAll(/icmp_seq=(\d+) ttl=/g)].map(([, sequence]) => Number(sequence)));
  const last = Math.max(count, ...answered);
  return Array.from({ length: last }, (_, i) => i + 1).filter((sequence) => !answered.has(sequence));
}
