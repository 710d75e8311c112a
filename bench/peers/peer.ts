/** What the bench measures: something that forwards between sa and sb of the two-host bench. */
import type { TwoHosts } from '../two-host.ts';

/** One forwarder of the side-by-side table. */
export interface Peer {
  /** Short name, as in `--peer`. */
  readonly id: string;
  /** Name in the table. */
  readonly title: string;
  /** Bring it up between the cables; resolves when it forwards. */
  start(hosts: TwoHosts): Promise<void>;
  /** Take it down. Called once after start, also when start failed. */
  stop(hosts: TwoHosts): Promise<void>;
  /** Version and settings that matter, for the report. */
  describe(): string;
}
