/**
 * The configuration of the learning extension from outside: a zod schema, and its findings as sentences. Neighbours:
 * forwarding-database.ts keeps what is configured here.
 */
import { z } from 'zod';
import { parseMacInto } from '../../net/index.ts';
import { checkedBy } from '../../switch/index.ts';

const MAX_AGEING_SECONDS = 1_000_000;
const MAX_ADDRESSES = 1_000_000;
const MAX_STATIC = 65_536;
const MAX_FLOWS = 1_000_000;
const MAX_IDLE_SECONDS = 3600;

const limitPolicy = z.enum(['flood', 'drop']);
const vlan = z.int().min(0).max(4094);
const mac = z.string().refine((text) => parseMacInto(text, new Uint8Array(6), 0), {
  error: 'must be a MAC address such as 02:00:00:00:00:01',
});

/** A static entry as people write it. */
export const staticEntrySchema = z.strictObject({
  mac,
  /** 0: no VLAN. */
  vlan: vlan.default(0),
  /** Name of the port. */
  port: z.string().min(1),
});

/** Which entries are meant by a command. */
export const filterSchema = z
  .strictObject({
    vlan: vlan.optional(),
    port: z.string().optional(),
    mac: mac.optional(),
    /** Static entries too; for flush. */
    static: z.boolean().optional(),
  })
  .nullish()
  .transform((filter) => filter ?? {});

const schema = z
  .strictObject({
    /** Learned addresses are forgotten after this time; 0: never. */
    ageingSeconds: z.int().min(0).max(MAX_AGEING_SECONDS).default(300),
    /** Most addresses in all. */
    maximum: z.int().min(1).max(MAX_ADDRESSES).default(16_384),
    /** Forward 01:80:c2:00:00:0x instead of dropping it. */
    forwardLinkLocal: z.boolean().default(false),
    /** What becomes of packets from new addresses on a port that has reached its limit. */
    onLimit: limitPolicy.default('flood'),
    /** Settings by port name; ports may come later. */
    ports: z
      .record(
        z.string(),
        z.strictObject({
          /** Most addresses learned on the port; 0: no limit. */
          limit: z.int().min(0).max(MAX_ADDRESSES).default(0),
          onLimit: limitPolicy.optional(),
          /** Whether addresses are learned on the port. */
          enabled: z.boolean().default(true),
        }),
      )
      .default({}),
    /** Flows for whoever carries packets elsewhere, such as the kernel. */
    flows: z
      .strictObject({
        /** Most flows that forward; those that drop have a quarter of it on top. 0: none at all. */
        maximum: z.int().min(0).max(MAX_FLOWS).default(100_000),
        /** Flows that are not used for this time are taken out. */
        idleSeconds: z.int().min(1).max(MAX_IDLE_SECONDS).default(10),
      })
      .prefault({}),
    static: z.array(staticEntrySchema).max(MAX_STATIC).default([]),
  })
  .nullish()
  .transform((value) => value ?? undefined);

/** A checked configuration. */
export type LearningConfiguration = Readonly<NonNullable<z.output<typeof schema>>>;
export type StaticEntry = Readonly<z.output<typeof staticEntrySchema>>;
export type EntryFilter = Readonly<z.output<typeof filterSchema>>;

/**
 * Check a configuration; left out: all defaults.
 * @throws TypeError naming the fields
 */
export function parseLearningConfiguration(value: unknown): LearningConfiguration {
  const given = checkedBy(schema, value ?? {});
  return given ?? parseLearningConfiguration({});
}
