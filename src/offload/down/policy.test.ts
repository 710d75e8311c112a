import { expect, test } from 'vitest';
import { DownPolicy } from './policy.ts';

/** Super-packets that the engine copies. */
function policy() {
  const made = new DownPolicy();
  const ticket = made.ticketOf(7);
  made.wentOn(ticket, 1, true);
  const many = (packets: number, isAlone = true) =>
    Array.from({ length: packets }, () => made.wants(ticket, isAlone)).filter((isWanted) => isWanted).length;
  return { made, ticket, many };
}

test('it pays for what the engine would have to copy, the longer the sooner, or to look up very often', () => {
  const made = new DownPolicy();
  expect(made.pays(1, 60_000)).toBe(false);
  const least = (lengthBytes: number, isCopied: boolean) => {
    for (let lookUps = 0; lookUps < 100; lookUps += 1) {
      made.wentOn(1, lookUps, isCopied);
      if (made.pays(1, lengthBytes)) return lookUps;
    }
    return -1;
  };
  expect(least(60_000, true)).toBe(1);
  expect(least(1500, true)).toBe(7);
  expect(least(60, true)).toBe(9);
  expect(least(60_000, false)).toBe(10);
});

test('it does not pay where the engine found no flow in the end', () => {
  const { made, ticket } = policy();
  expect(made.pays(ticket, 60_000)).toBe(true);
  made.wentOn(ticket, 0, true);
  expect(made.pays(ticket, 60_000)).toBe(false);
});

test('until some have gone down for good only packets that are alone do', () => {
  const { many } = policy();
  expect(many(10, false)).toBe(0);
  expect(many(8)).toBe(8);
  expect(many(10, false)).toBe(10);
});

test('after one that came up again packets stay, each time twice as many, and are tried alone', () => {
  const { made, ticket, many } = policy();
  many(20);
  for (const stay of [8, 16, 32, 64]) {
    made.cameBack(ticket);
    expect(many(stay)).toBe(0);
    expect(many(1, false)).toBe(0);
    expect(many(1)).toBe(1);
  }
  for (let i = 0; i < 20; i += 1) made.cameBack(ticket);
  expect(many(8192)).toBe(0);
  expect(many(1)).toBe(1);
});

test('when packets go down for good again, what came up before is forgotten', () => {
  const { made, ticket, many } = policy();
  many(1);
  made.cameBack(ticket);
  made.cameBack(ticket);
  expect(many(16)).toBe(0);
  expect(many(9)).toBe(9);
  made.cameBack(ticket);
  expect(many(8)).toBe(0);
  expect(many(1)).toBe(1);
});

test('now and then one stays, so that it is seen when less follows', () => {
  const { many } = policy();
  const packets = 1000;
  const stayed = packets - many(packets);
  expect(stayed).toBeGreaterThanOrEqual(3);
  expect(stayed).toBeLessThan(10);
});

test('tickets are never 0, whatever the slot', () => {
  const made = new DownPolicy();
  for (const slot of [0, 1, 65_534, 65_535, 65_536, 1_000_000]) {
    expect(made.ticketOf(slot)).toBeGreaterThan(0);
    expect(made.ticketOf(slot)).toBeLessThan(1 << 16);
  }
});
