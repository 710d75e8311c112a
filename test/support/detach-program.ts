/** Takes programs off interfaces as somebody else would: `bpftool link detach` needs no more than the number of a link. */
import { queryNetdev } from '../../src/bpf/index.ts';
import { closeDescriptor, NativeBlock, rawBpf } from '../../src/host/index.ts';

const BPF_LINK_GET_FD_BY_ID = 30;
const BPF_LINK_DETACH = 34;

/** Where a program runs. */
export type Place = 'ingress' | 'egress' | 'xdp';

/**
 * Detach the first program of an interface that is meant. The calling thread has to be in the interface's network namespace.
 * @param isMeant by its name; at XDP there is one
 * @throws Error when there is none
 */
export function detachProgram(netdev: string, place: Place, isMeant: (name: string) => boolean = () => true): void {
  const { xdp, tcx } = queryNetdev(netdev);
  const linkId = place === 'xdp' ? xdp?.linkId : tcx?.[place].programs.find(({ name }) => isMeant(name))?.linkId;
  const attributes = new NativeBlock(16);
  attributes.u32[0] = linkId ?? 0;
  const descriptor = rawBpf(BPF_LINK_GET_FD_BY_ID, attributes, 12);
  if (descriptor < 0) throw new Error(`${netdev} has no such program at ${place}`);
  attributes.u32[0] = descriptor;
  const result = rawBpf(BPF_LINK_DETACH, attributes, 4);
  closeDescriptor(descriptor);
  if (result !== 0) throw new Error(`the program of ${netdev} at ${place} cannot be detached`);
}
