/**
 * Dumps that come out whole. The kernel hands a dump over in parts and flags one during which its table changed (NLM_F_DUMP_INTR): objects may
 * be missing from it, or be in it twice. So it is asked for again, within bounds: where something changes all the time, no dump is undisturbed.
 */
import type { Transaction } from './transaction.ts';

/** How often a dump is asked for at most. */
export const DUMP_ATTEMPTS = 8;

/**
 * Ask until an answer was not disturbed.
 * @param ask makes the request once; it throws for a request that fails
 * @returns the last answer; its `interrupted` tells whether it was disturbed as all others were
 */
export function askSteadily(ask: () => Transaction): Transaction {
  let transaction = ask();
  for (let attempt = 1; transaction.interrupted && attempt < DUMP_ATTEMPTS; attempt += 1) transaction = ask();
  return transaction;
}
