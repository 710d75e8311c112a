/** RFC 6040, whole: figures 3 (normal mode) and 4, and what writing a mark does to headers. */
import { expect, test } from 'vitest';
import { composeFrame, EtherType, IpProtocol } from '../net/index.ts';
import { decapsulatedEcn, Ecn, encapsulatedTos, setEcn } from './ecn.ts';
import { ethernet, ipv4, ipv6, isSound, udp } from './testing.ts';

const NAMES = ['Not-ECT', 'ECT(1)', 'ECT(0)', 'CE', 'drop'] as const;
const codeOf = (name: string) => NAMES.indexOf(name as (typeof NAMES)[number]);

/** Figure 4 as printed: arriving inner header; outer Not-ECT, ECT(0), ECT(1), CE. */
const FIGURE_4 = `
  Not-ECT | Not-ECT | Not-ECT | Not-ECT | drop
  ECT(0)  | ECT(0)  | ECT(0)  | ECT(1)  | CE
  ECT(1)  | ECT(1)  | ECT(1)  | ECT(1)  | CE
  CE      | CE      | CE      | CE      | CE
`;

test('marks are joined as figure 4 of RFC 6040 says, in all sixteen cases', () => {
  const rows = FIGURE_4.trim().split('\n');
  const outers = [Ecn.NOT_ECT, Ecn.ECT_0, Ecn.ECT_1, Ecn.CE];
  let cases = 0;
  for (const row of rows) {
    const [inner, ...joined] = row.split('|').map((cell) => cell.trim());
    joined.forEach((wanted, column) => {
      expect(NAMES[decapsulatedEcn(codeOf(inner), outers[column])], `${inner} in ${NAMES[outers[column]]}`).toBe(
        wanted,
      );
      cases += 1;
    });
  }
  expect(cases).toBe(16);
});

test('the mark inside is outside as well, whatever the tunnel itself says', () => {
  const all = Array.from({ length: 0x1_0000 }, (_, i) => ({ tos: i >>> 8, inner: i & 0xff }));
  expect(all.filter(({ tos, inner }) => encapsulatedTos(tos, inner) !== ((tos & 0xfc) | (inner & 3)))).toEqual([]);
});

test('a mark is written with the header checksum of IPv4 kept right, and leaves all else alone', () => {
  for (const version of [4, 6]) {
    for (const before of [0, 1, 2, 3]) {
      for (const after of [0, 1, 2, 3]) {
        const frameWith = (ecn: number) =>
          version === 4
            ? composeFrame([ethernet(EtherType.IPV4), ipv4(IpProtocol.UDP, { dscp: 46, ecn }), udp()])
            : composeFrame([
                ethernet(EtherType.IPV6),
                ipv6(IpProtocol.UDP, { trafficClass: 0xb8 | ecn, flowLabel: 0xfffff }),
                udp(),
              ]);
        const frame = frameWith(before);
        setEcn(new DataView(frame.buffer), 14, version, after);
        expect(frame).toEqual(frameWith(after));
        expect(isSound(frame)).toBe(true);
      }
    }
  }
});
