import { describe, expect, test } from 'vitest';
import { R5, R6, R7, R8 } from '../../bpf/index.ts';
import { Word } from '../../flow/index.ts';
import { arrange, Fact, type Stage, StageError } from './stage.ts';

const PORT = new Fact('the port', { slotBytes: 8 });
const KEY = new Fact('the headers');
const CPU = new Fact('the CPU', { registers: [R5], slotBytes: 8, bring: () => {} });
const ENTRY = new Fact('the entry', { registers: [R7] });
const PACKET = new Fact('the bytes', { registers: [R7, R8], bring: () => {} });

function stage(name: string, more: Partial<Stage> = {}): Stage {
  return { name, needs: [], emit: () => {}, ...more };
}

const port = stage('port', { gives: [PORT, CPU] });
const parser = stage('parser', {
  role: 'on demand',
  needs: [CPU],
  gives: [KEY],
  givesKey: [[Word.L2, Word.TUNNEL]],
  keeps: [CPU],
});
const lookup = stage('look-up', { needs: [CPU, KEY], gives: [ENTRY] });
const actions = stage('actions', { needs: [ENTRY] });
const end = stage('end', { role: 'end', needs: [PORT] });
const own = [port, parser, lookup, actions, end];

function names(added: readonly Stage[], list: readonly Stage[] = own, again = false): string[] {
  return arrange(list, added, again).map(({ stage: { name }, brings }) =>
    [name, ...brings.map((fact) => `after ${fact.name}`)].join(' '),
  );
}

describe('order', () => {
  test('is that of the list where needs leave a choice, and follows needs where they do not', () => {
    expect(names([])).toEqual(['port', 'parser', 'look-up', 'actions', 'end']);
    expect(names([], [end, actions, lookup, parser, port])).toEqual(['port', 'parser', 'look-up', 'actions', 'end']);
  });

  test('has a stage that is added as early as its needs allow', () => {
    expect(names([stage('counts', { needs: [PORT] })])[1]).toBe('counts');
    expect(names([stage('reads', { key: [[Word.IP, 0xff00]] })])[2]).toBe('reads');
    const finds = new Fact('the tunnel');
    const added = [
      stage('uses', { needs: [finds, ENTRY], keeps: [ENTRY] }),
      stage('finds', { needs: [PORT], gives: [finds] }),
    ];
    expect(names(added)).toEqual(['port', 'finds', 'parser after the CPU', 'look-up', 'uses', 'actions', 'end']);
  });

  test('has ends behind all others, in the order of the list', () => {
    const ends = [stage('one', { role: 'end' }), stage('two', { role: 'end' })];
    expect(names([stage('late', { needs: [ENTRY], keeps: [ENTRY] })], [...ends, ...own])).toEqual([
      'port',
      'parser',
      'look-up',
      'late',
      'actions',
      'one',
      'two',
      'end',
    ]);
  });
});

describe('who is there', () => {
  const idle = own.map((each) => (each === lookup ? { ...lookup, isIdle: true } : each));

  test('without a stage that is idle, those that rest on it are left out, and what only they asked for', () => {
    expect(names([], idle)).toEqual(['port', 'end']);
    expect(names([stage('late', { needs: [ENTRY] })], idle)).toEqual(['port', 'end']);
  });

  test('a stage on demand is there for whoever needs what it gives', () => {
    expect(names([stage('reads', { key: [[Word.IP, 0xff00]] })], idle)).toEqual(['port', 'parser', 'reads', 'end']);
  });

  test('each pass has its own', () => {
    const list = [stage('fresh', { pass: 'first' }), stage('left over', { pass: 'again' }), ...own];
    expect(names([], list)[0]).toBe('fresh');
    expect(names([], list, true)[0]).toBe('left over');
  });
});

describe('registers', () => {
  test('what a stage may have used otherwise is brought again where that can be', () => {
    expect(names([stage('calls', { needs: [PORT] })])).toEqual([
      'port',
      'calls',
      'parser after the CPU',
      'look-up',
      'actions',
      'end',
    ]);
    expect(
      names([stage('looks', { needs: [PORT, PACKET], keeps: [CPU] })], [stage('bytes', { gives: [PACKET] }), ...own]),
    ).toEqual(['bytes', 'port', 'looks after the bytes', 'parser', 'look-up', 'actions', 'end']);
  });

  test('what cannot be brought again is an error that names who has used the register', () => {
    expect(() => names([stage('calls', { needs: [ENTRY] })])).toThrow(
      new StageError('stage actions needs the entry in r7, which calls has used otherwise'),
    );
  });

  test('two things in one register are an error', () => {
    const list = [stage('bytes', { gives: [PACKET] }), ...own];
    expect(() => names([stage('both', { needs: [ENTRY, PACKET] })], list)).toThrow(
      new StageError('stage both needs the entry and something else in the same register'),
    );
    const context = new Fact('a copy', { registers: [R6] });
    expect(names([stage('copies', { gives: [context] }), stage('reads it', { needs: [context] })])[1]).toBe('reads it');
  });
});

describe('what does not fit together is an error with a sentence', () => {
  test('a fact or a word of the key that no stage gives', () => {
    const connection = new Fact('the connection');
    expect(() => names([stage('tracks', { needs: [connection] })])).toThrow(
      new StageError('stage tracks needs the connection, which no stage gives'),
    );
    expect(() => names([stage('tracks', { key: [[Word.CT_MARK, 1]] })])).toThrow(
      new StageError('stage tracks needs ct_mark of the key, which no stage gives'),
    );
    const marks = stage('marks', { givesKey: [[Word.CT_MARK, Word.CT_MARK + 1]] });
    expect(names([stage('tracks', { key: [[Word.CT_MARK, 1]] }), marks]).slice(0, 2)).toEqual(['marks', 'tracks']);
  });

  test('what is given by another pass alone', () => {
    const depth = new Fact('the depth');
    const added = [stage('counts passes', { needs: [depth] }), stage('depth', { pass: 'again', gives: [depth] })];
    expect(() => names(added)).toThrow('needs the depth, which no stage gives');
    expect(names(added, own, true)).toContain('counts passes');
  });

  test('one thing from two stages', () => {
    expect(() => names([stage('again', { gives: [PORT] })])).toThrow(
      new StageError('the port is given by two stages: again, port'),
    );
  });

  test('stages that need each other', () => {
    const [a, c] = [new Fact('a'), new Fact('c')];
    const added = [stage('one', { needs: [a], gives: [c] }), stage('other', { needs: [c], gives: [a] })];
    expect(() => names(added)).toThrow(new StageError('stages need what only later ones give: one, other'));
  });
});
