/**
 * Whether a port that is to be at XDP can be: its frames come with whole checksums, the driver takes the program, and what is redirected to it is
 * sent. All of it depends on what others set, mostly at a veth's other end, and may change at any moment: port-upkeep.ts has it looked at again and
 * again. Where XDP cannot be, tc does the same.
 */
import { NoInterfaceError, newsOfPeers, xdpReception } from '../../bpf/index.ts';
import { SystemError } from '../../host/index.ts';
import { xdpTarget } from '../../offload/index.ts';
import { messageOf } from '../contract.ts';
import { Condition } from './condition.ts';

/** A refused program is tried again after news of the interface or its other end, else so often. */
const RETRY_MS = 10_000;

export class XdpState {
  readonly #receiving = new Condition();
  readonly #sending = new Condition();
  /** Why the driver did not take the program. */
  #refusal: string | null = null;
  #refusedMs = 0;
  #lacksGro = false;

  /** Why packets of the port do not come to XDP; null when they may. */
  get notReceiving(): string | null {
    return this.#receiving.reason;
  }

  /** Why XDP does not send to the port; null when it may. */
  get notSending(): string | null {
    return this.#sending.reason;
  }

  /** Whether all that sending lacked when it was last looked at is GRO at a veth's other end. */
  get lacksGro(): boolean {
    return this.#lacksGro;
  }

  /**
   * See how it is now.
   * @param ifindex of the port, in the calling thread's network namespace
   * @param isNews whether something was said of the interface or its other end
   * @returns whether anything is other than before
   */
  look(ifindex: number, isNews: boolean, nowMs: number): boolean {
    if (isNews) newsOfPeers();
    let receiving = reasonOf(() => xdpReception(ifindex));
    if (receiving === null && this.#refusal !== null) {
      if (!isNews && nowMs < this.#refusedMs + RETRY_MS) receiving = this.#refusal;
      else this.#refusal = null;
    }
    const isOtherIn = this.#receiving.see(receiving, nowMs);
    this.#lacksGro = false;
    const sending = reasonOf(() => {
      const target = xdpTarget(ifindex, false);
      this.#lacksGro = !target.possible && target.lacksGro;
      return target;
    });
    const isOtherOut = this.#sending.see(sending, nowMs);
    return isOtherIn || isOtherOut;
  }

  /** The driver did not take the program. */
  refuse(reason: string, nowMs: number): void {
    this.#refusal = reason;
    this.#refusedMs = nowMs;
    this.#receiving.see(reason, nowMs);
  }
}

type Answer = { readonly possible: true } | { readonly possible: false; readonly reason: string };

function reasonOf(ask: () => Answer): string | null {
  try {
    const answer = ask();
    return answer.possible ? null : answer.reason;
  } catch (error) {
    // Gone, or going: what cannot be asked is not relied on.
    if (error instanceof SystemError || error instanceof NoInterfaceError) return messageOf(error);
    throw error;
  }
}
