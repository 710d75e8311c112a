/** A forwarding decider, the smallest that is of use: what comes in by one of two ports goes out by the other. */
import { defineDecider } from 'millrace/switch';

type Ends = readonly [string, string];

export default defineDecider<Ends>({
  descriptor: { name: 'cable', type: 'forwarding', version: '1.0.0', description: 'joins two ports' },

  parseConfiguration(value) {
    const { ends, ...more } = { ...(value as { readonly ends?: unknown } | null) };
    const [unknown] = Object.keys(more);
    if (unknown !== undefined) throw new Error(`unknown key "${unknown}"; there is only ends`);
    const [one, other] = Array.isArray(ends) && ends.length === 2 ? (ends as unknown[]) : [];
    if (typeof one !== 'string' || typeof other !== 'string' || one === other)
      throw new Error('ends: must be the names of two ports');
    return [one, other];
  },

  create: ({ ports }, [one, other]) => ({
    decide(packet, decision) {
      const name = ports.nameOf(packet.inPort);
      const end = name === one ? ports.named(other) : name === other ? ports.named(one) : null;
      // What is sent nowhere is dropped.
      if (end !== null) decision.output(end);
    },
  }),
});
