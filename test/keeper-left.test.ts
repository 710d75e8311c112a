/** What a former process left on interfaces: taken off as a whole, or left as a whole until it can be. */
import { mkdirSync } from 'node:fs';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { loadProgram, ProgramBuilder, queryTcx, TC } from '../src/bpf/index.ts';
import { withRouteClient } from '../src/host/index.ts';
import { KeptState } from '../src/keeper/left/kept.ts';
import { LinkFlag } from '../src/netlink/index.ts';
import { BpfFileSystem } from './support/bpf-fs.ts';
import { type Host, Lab, TakenDescriptors } from './support/index.ts';

let lab: Lab;
let pins: BpfFileSystem;
beforeEach(() => {
  lab = new Lab();
  pins = new BpfFileSystem();
});
afterEach(() => {
  lab.close();
  pins.close();
});

/** An interface with a program, set up for it, as a process has left both. @returns the folder of the pins, and its index */
function left(host: Host): { folder: string; ifindex: number } {
  const folder = pins.at('left');
  mkdirSync(folder, { mode: 0o700 });
  const b = new ProgramBuilder('millrace_tc');
  b.return(TC.NEXT);
  const program = lab.own(loadProgram({ type: 'sched_cls', code: b }));
  const ifindex = host.inside(() => withRouteClient((client) => client.link('p').index));
  host.inside(() => {
    const kept = new KeptState(folder);
    kept.changes.make(ifindex, 'up');
    kept.attach({ program, netdev: ifindex, hook: 'tc-ingress' });
    kept.close();
  });
  return { folder, ifindex };
}

const seen = (host: Host) =>
  host.inside(() => ({
    isUp: withRouteClient((client) => (client.link('p').flags & LinkFlag.UP) !== 0),
    programs: (queryTcx('p', 'ingress')?.programs ?? []).map(({ name }) => name),
  }));

test('programs whose interface cannot be changed back stay with it, and go when it can', () => {
  const [host] = lab.hosts(1);
  host.ip('link add p type ifb');
  const { folder, ifindex } = left(host);
  const there = { isUp: true, programs: ['millrace_tc'] };
  expect(seen(host)).toEqual(there);
  host.inside(() => {
    const kept = new KeptState(folder);
    try {
      let thrown: unknown = null;
      const taken = new TakenDescriptors();
      try {
        kept.dropPrograms(ifindex, false);
      } catch (error) {
        thrown = error;
      } finally {
        taken.end();
      }
      expect(thrown).toMatchObject({ code: 'EMFILE' });
      expect([...kept.programs.keys()]).toEqual([ifindex]);
      expect(kept.changes.interfaces).toEqual([ifindex]);
      kept.dropPrograms(ifindex, false);
      expect([[...kept.programs], kept.changes.interfaces]).toEqual([[], []]);
    } finally {
      kept.removeAll();
    }
  });
  expect(seen(host)).toEqual({ isUp: false, programs: [] });
});

test('what was left is not removed because nothing, or little, can be opened at present', () => {
  const [host] = lab.hosts(1);
  host.ip('link add p type ifb');
  const { folder, ifindex } = left(host);
  host.inside(() => {
    for (let spared = 0; spared < 8; spared += 1) {
      let thrown: unknown = null;
      const taken = new TakenDescriptors();
      taken.spare(spared);
      try {
        new KeptState(folder).close();
      } catch (error) {
        thrown = error;
      } finally {
        taken.end();
      }
      if (spared === 0) expect(thrown).toMatchObject({ code: 'EMFILE' });
    }
    const kept = new KeptState(folder);
    expect([...kept.programs.keys()]).toEqual([ifindex]);
    kept.removeAll();
  });
  expect(seen(host)).toEqual({ isUp: false, programs: [] });
});
