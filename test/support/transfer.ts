/** TCP between two hosts, byte for byte: what was sent is compared with what arrived. */
import { fileURLToPath } from 'node:url';
import type { Host } from './lab.ts';

const script = fileURLToPath(new URL('transfer-peer.mjs', import.meta.url));
let nextPort = 20_000;

/**
 * Send pseudo-random bytes from one host to another.
 * @param address of the receiver, IPv4 or IPv6
 * @returns the SHA-256 digests of what was sent and of what was received
 * @throws CommandError when one side fails
 */
export async function transfer(
  from: Host,
  to: Host,
  address: string,
  lengthBytes: number,
): Promise<{ sent: string; received: string }> {
  nextPort += 1;
  const port = String(nextPort);
  const receiver = to.start(process.execPath, [script, 'receive', port]);
  await receiver.printed(/listening/);
  const sender = from.start(process.execPath, [script, 'send', port, address, String(lengthBytes)]);
  const [sent, received] = await Promise.all([sender.result(), receiver.result()]);
  return { sent: digest(sent), received: digest(received) };
}

function digest(output: string): string {
  return /sha256 (\d+ [0-9a-f]{64})/.exec(output)?.[1] ?? `no digest in: ${output}`;
}
