/** Arrays of the kernel that outlive the process stay pinned, whoever removes their pins. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { findPins, KeptArrays, removePins } from '../src/keeper/index.ts';
import { must } from './daemon-world.ts';

const folder = mkdtempSync(join(tmpdir(), 'millrace-arrays-'));
const identity = join(folder, 'mr.sock');
afterEach(() => {
  removePins(identity);
  rmSync(folder, { recursive: true });
});

test('arrays whose pins were removed, or the file system beneath them, are pinned again with what is in them', () => {
  const arrays = new KeptArrays(identity, 'connections');
  const { words, transient } = arrays.make({ control: 4096, index: 4096 });
  expect(transient).toBeNull();
  words.control[3] = 7;
  expect(arrays.pinAgain()).toBeNull();
  const pins = findPins(identity) ?? '';
  rmSync(join(pins, 'connections', 'index'));
  expect(arrays.pinAgain()).toBe(join(pins, 'connections', 'index'));
  if (dirname(pins) === folder) must('umount', '--lazy', pins);
  else rmSync(pins, { recursive: true });
  expect(arrays.pinAgain()).toBe(join(pins, 'connections', 'control'));
  expect(existsSync(join(pins, 'connections', 'index'))).toBe(true);
  arrays.close(true);
  const next = new KeptArrays(identity, 'connections');
  expect(next.left('control', 4096)?.[3]).toBe(7);
  next.close(false);
});
