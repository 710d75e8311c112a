/**
 * Asking the kernel over netlink, one question at a time, in the network namespace of the calling thread.
 * Neighbours: netlink/ has the messages; sys/netdev.ts and link/clsact.ts ask.
 */
import {
  bind,
  DumpInterruptedError,
  NativeBlock,
  receiveFrom,
  Socket,
  SystemError,
  send,
  socket,
  tryNumberOption,
  waitReadable,
} from '../../host/sys/index.ts';
import {
  askSteadily,
  DUMP_ATTEMPTS,
  type Message,
  MessageWriter,
  NetlinkProtocol,
  parseMessages,
  type Request,
  Transaction,
} from '../../netlink/index.ts';
import { Errno } from './bpf.ts';

const OPTION_EXT_ACK = 11;
const TIMEOUT_MS = 5000;
const RECEIVE_BYTES = 128 * 1024;
/** For one question after the other: what is kept of an answer is copied. */
const buffer = new Uint8Array(RECEIVE_BYTES);

/**
 * Ask, and wait for the whole answer.
 * @param protocol NetlinkProtocol.ROUTE or GENERIC
 * @returns the messages that answer; none for a request that only wants to be carried out
 * @throws DumpInterruptedError for a dump that changes disturbed each time; SystemError with the errno of the kernel's refusal, or ETIMEDOUT
 */
export function ask(request: Request, protocol: number = NetlinkProtocol.ROUTE): readonly Message[] {
  const descriptor = socket(Socket.AF_NETLINK, Socket.RAW, protocol, `${request.doing}: open a netlink socket`);
  try {
    const fd = descriptor.number;
    tryNumberOption(fd, Socket.SOL_NETLINK, OPTION_EXT_ACK, 1);
    const address = new NativeBlock(12);
    address.u16[0] = Socket.AF_NETLINK;
    bind(fd, address, 12, request.doing);
    let sequence = 0;
    const { interrupted, replies } = askSteadily(() => {
      sequence += 1;
      const transaction = new Transaction(request, sequence);
      const writer = new MessageWriter();
      transaction.encode(writer);
      send(fd, writer.take(), request.doing);
      receive(fd, transaction, request.doing);
      if (transaction.failure !== null) {
        throw new SystemError('netlink', transaction.failure.errno, request.doing);
      }
      return transaction;
    });
    if (interrupted) throw new DumpInterruptedError(request.doing, DUMP_ATTEMPTS, replies);
    return replies;
  } finally {
    descriptor.close();
  }
}

function receive(fd: number, transaction: Transaction, doing: string): void {
  const sender = new NativeBlock(12);
  for (;;) {
    if (!waitReadable(fd, TIMEOUT_MS)) throw new SystemError('netlink', Errno.ETIMEDOUT, doing);
    const length = receiveFrom(fd, buffer, 0, sender, doing);
    // Only the kernel has port id 0; another process could send to us too.
    if (length < 0 || sender.u32[1] !== 0) continue;
    for (const message of parseMessages(buffer, length)) {
      const progress = transaction.offer(message);
      if (progress === 'done' || progress === 'failed') return;
    }
  }
}
