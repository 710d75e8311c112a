/** A bpf file system of a test's own, to pin things in: it and all pins go when the test is over. */
import { mkdtempSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MountFlag, mount, unmount } from '../../src/host/sys/index.ts';

/** A mounted bpf file system. */
export class BpfFileSystem {
  readonly path = mkdtempSync(join(tmpdir(), 'millrace-bpf-'));

  constructor() {
    mount('bpf', this.path, 'bpf', 0, `mount a bpf file system at ${this.path}`);
  }

  /** A path in it. */
  at(name: string): string {
    return join(this.path, name);
  }

  close(): void {
    unmount(this.path, MountFlag.DETACH, `unmount ${this.path}`);
    rmdirSync(this.path);
  }
}
