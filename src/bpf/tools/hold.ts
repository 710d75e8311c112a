/**
 * Keeps an XDP program in the kernel's dispatcher. On x86 every test run of many frames puts its program into the dispatcher and takes it out
 * again, which patches code and costs some 25 ms; a program that is attached somewhere stays in, and a run then costs 20 us.
 * The somewhere is a TAP of our own that nothing is ever sent through and that goes with its descriptor.
 * Neighbour: tools/generate.ts sends in short runs so that it can be paced and stopped.
 */
import { type FileDescriptor, ioctl, NativeBlock, Open, open } from '../../host/sys/index.ts';
import type { Link } from '../link/link.ts';
import { attachXdp } from '../link/xdp.ts';
import type { Program } from '../program/program.ts';

const TUNSETIFF = 0x400454ca;
const IFF_TAP = 2;
const IFF_NO_PI = 0x1000;

/**
 * Hold a program.
 * @returns what lets go; undefined where a TAP cannot be made or the program not attached: things then work, but slower
 */
export function holdInDispatcher(program: Program): (() => void) | undefined {
  let tap: FileDescriptor | undefined;
  let link: Link | undefined;
  try {
    tap = open('/dev/net/tun', Open.RDWR);
    const request = new NativeBlock(40);
    request.setString(0, 16, 'mrgen%d');
    request.u16[8] = IFF_TAP | IFF_NO_PI;
    ioctl(tap.number, TUNSETIFF, request, 'make a TAP to hold a program');
    link = attachXdp({ program, netdev: request.getString(0, 16), mode: 'generic' });
  } catch {
    link?.close();
    tap?.close();
    return undefined;
  }
  const [heldTap, heldLink] = [tap, link];
  return () => {
    heldLink.close();
    heldTap.close();
  };
}
