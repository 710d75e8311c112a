import { expect, test } from 'vitest';
import { DownPolicy, LEAST_LOOK_UPS } from './policy.ts';

function policy(lookUps = LEAST_LOOK_UPS) {
  const made = new DownPolicy();
  const ticket = made.ticketOf(7);
  made.wentOn(ticket, lookUps);
  const many = (packets: number, isAlone = true) =>
    Array.from({ length: packets }, () => made.wants(ticket, isAlone)).filter((isWanted) => isWanted).length;
  return { made, ticket, many };
}

test('nothing is handed down of which nothing is known, that ends in a miss, or that few look-ups follow', () => {
  expect(new DownPolicy().wants(1, true)).toBe(false);
  expect(policy(0).many(10)).toBe(0);
  expect(policy(LEAST_LOOK_UPS - 1).many(10)).toBe(0);
  expect(policy().many(10)).toBe(10);
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

test('now and then one stays, so that it is seen when fewer look-ups follow', () => {
  const { made, ticket, many } = policy();
  const packets = 1000;
  const down = many(packets);
  expect(packets - down).toBeGreaterThanOrEqual(3);
  expect(packets - down).toBeLessThan(10);
  made.wentOn(ticket, 1);
  expect(many(10)).toBe(0);
});

test('tickets are never 0, whatever the slot', () => {
  const made = new DownPolicy();
  for (const slot of [0, 1, 65_534, 65_535, 65_536, 1_000_000]) {
    expect(made.ticketOf(slot)).toBeGreaterThan(0);
    expect(made.ticketOf(slot)).toBeLessThan(1 << 16);
  }
});
