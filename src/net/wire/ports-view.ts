/** The two ports with which the headers of TCP, UDP and SCTP begin. */
import { setU16, u16 } from './bytes.ts';
import { View } from './view.ts';

/** Where the second one is. */
const DESTINATION_PORT = 2;

/** A view of a header that begins so. */
export abstract class PortsView extends View {
  get sourcePort(): number {
    return u16(this.bytes, this.offset);
  }

  set sourcePort(value: number) {
    setU16(this.bytes, this.offset, value);
  }

  get destinationPort(): number {
    return u16(this.bytes, this.offset + DESTINATION_PORT);
  }

  set destinationPort(value: number) {
    setU16(this.bytes, this.offset + DESTINATION_PORT, value);
  }
}
