import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { parseConfig } from '../../src/daemon/config/parse.ts';
import { TestBench, tcp } from '../testing.ts';
import topTalkers from './top-talkers.ts';

const NAME = 'top-talkers';

function benchWith(configuration: unknown): TestBench {
  const bench = new TestBench('left', 'right');
  bench.virtualSwitch.enableExtension(topTalkers, configuration).result();
  return bench;
}

test('talkers are listed by bytes, and every packet is delivered as it came', () => {
  const bench = benchWith({ top: 2 });
  const small = tcp('10.0.0.1', '10.0.0.9', [1, 2]);
  bench.send('left', small, tcp('10.0.0.2', '10.0.0.9', [1, 2]), small, tcp('10.0.0.3', '10.0.0.9', [1, 2]), small);
  bench.send('left', tcp('10.0.0.3', '10.0.0.9', [1, 2]));
  expect(bench.take('right')[0]).toEqual(small);
  const status = bench.virtualSwitch.extensionStatus(NAME);
  expect(status).toMatchObject({
    talkers: [
      { address: '10.0.0.1', packets: 3, bytes: 3 * small.length },
      { address: '10.0.0.3', packets: 2 },
    ],
    sizes: [{ upToBytes: 64, packets: 6 }, ...new Array(7).fill({ packets: 0 })],
  });
});

test('a small table keeps the large sender among thousands of forged addresses', () => {
  const bench = benchWith({ addresses: 16 });
  const heavy = tcp('192.0.2.1', '10.0.0.9', [1, 2]);
  for (let i = 0; i < 2000; i += 1) {
    bench.send('left', tcp(`10.1.${i >> 8}.${i & 255}`, '10.0.0.9', [1, 2]), heavy, heavy);
  }
  const status = bench.virtualSwitch.extensionStatus(NAME) as { talkers: { address: string; packets: number }[] };
  expect(status.talkers[0]).toMatchObject({ address: '192.0.2.1', packets: 4000 });
  expect(status.talkers.length).toBeLessThanOrEqual(16);
});

test('reset starts anew, and other commands are refused', () => {
  const bench = benchWith({});
  bench.send('left', tcp('10.0.0.1', '10.0.0.9', [1, 2]));
  bench.virtualSwitch.extensionCommand(NAME, 'reset', null);
  expect(bench.virtualSwitch.extensionStatus(NAME)).toMatchObject({ talkers: [] });
  expect(() => bench.virtualSwitch.extensionCommand(NAME, 'clear', null)).toThrow('there is no command "clear"');
});

test('its configuration is checked, and the one of the example is right', () => {
  expect(() => topTalkers.parseConfiguration?.({ adresses: 5 })).toThrow('unknown key "adresses"');
  expect(() => topTalkers.parseConfiguration?.({ addresses: 1000 })).toThrow('a power of two');
  const file = `${import.meta.dirname}/millrace.yaml`;
  const [extension] = parseConfig(readFileSync(file, 'utf8'), file).extensions;
  expect(extension.module).toBe(`${import.meta.dirname}/top-talkers.ts`);
  expect(topTalkers.parseConfiguration?.(extension.config)).toEqual({ addresses: 4096, top: 20 });
});
