/**
 * TAPs that a process has left to the one that it became (replace-process.ts): their descriptors are open, so that the devices are still there with
 * their addresses and routes, and whoever uses them. Each is taken up by the port that asks for its name, in its namespace; the rest is closed.
 */
import { readlinkSync } from 'node:fs';
import { ownDescriptors } from './replace-process.ts';
import { NetworkNamespace, SystemError } from './sys/index.ts';
import { TunDevice } from './tun-device.ts';

const DRIVER = '/dev/net/tun';
let left: { readonly device: TunDevice; readonly name: string; readonly namespace: string }[] = [];

/** The descriptors of this process's TAPs. */
export function tapDescriptors(): number[] {
  return ownDescriptors().filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === DRIVER;
    } catch {
      return false;
    }
  });
}

/** Look for what was left. To be called before this process makes a TAP of its own. */
export function findLeftTaps(): void {
  for (const fd of tapDescriptors()) {
    const device = TunDevice.adopt(fd);
    try {
      const reference = device.namespace();
      if (reference === null) throw new Error('the kernel does not tell where a TAP is');
      const there = NetworkNamespace.byPath(`/proc/self/fd/${reference.number}`);
      left.push({ device, name: device.name(), namespace: there.identity });
      there.close();
      reference.close();
    } catch {
      // Its device has been removed, or cannot be found again.
      device.close();
    }
  }
}

/** Whether a TAP was left under this name in a namespace. */
export function isTapLeft(name: string, namespace: NetworkNamespace): boolean {
  return left.some((one) => one.name === name && one.namespace === namespace.identity);
}

/** Take a TAP up. @returns null when none was left */
export function takeLeftTap(name: string, namespace: NetworkNamespace, headerBytes: number): TunDevice | null {
  const found = left.find((one) => one.name === name && one.namespace === namespace.identity);
  if (found === undefined) return null;
  left = left.filter((one) => one !== found);
  try {
    found.device.prepare(headerBytes, `take up TAP ${name}`);
    return found.device;
  } catch (error) {
    found.device.close();
    if (error instanceof SystemError) return null;
    throw error;
  }
}

/** Close what nobody has taken up. */
export function closeLeftTaps(): void {
  for (const { device } of left) device.close();
  left = [];
}
