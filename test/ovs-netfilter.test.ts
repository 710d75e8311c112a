/**
 * Netfilter's messages about connections, put to the kernel and, under the shim, to a datapath process that has the same connections: the answers have to be the same, errno by errno. The
 * requests are made at random from whole, odd and broken pieces; the same seed makes the same ones on both sides.
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { OvsWorld } from './ovs-world.ts';

const REQUESTS = 3000;

let world: OvsWorld;

beforeAll(async () => {
  world = new OvsWorld();
  await world.startDatapath({ OVS_HARNESS_CONNECTIONS: '200' });
});

afterAll(async () => {
  await world?.close();
});

const PROGRAM = `
import hashlib, json, random, socket, struct, sys
seed, count, is_kernel = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == 'kernel'
s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12); s.bind((0, 0))
def attr(type, content): return struct.pack('=HH', 4 + len(content), type) + content + bytes(-len(content) % 4)
def nest(type, content): return attr(type | 0x8000, content)
def message(type, flags, payload=b'', family=0, version=0):
    return struct.pack('=IHHII', 20 + len(payload), type, flags | 1, 7, 0) + struct.pack('=BBH', family, version, 0) + payload
def be16(n): return struct.pack('>H', n)
def be32(n): return struct.pack('>I', n)
def ask(m):
    s.send(m); answers = []
    while True:
        try: d = s.recv(1 << 17, socket.MSG_DONTWAIT)
        except BlockingIOError: return answers
        at = 0
        while at < len(d):
            length, type, flags = struct.unpack_from('=IHH', d, at)
            answers.append((type, flags, d[at + 16:at + length])); at += (length + 3) & ~3
def attributes(b):
    found, at = {}, 0
    while at + 4 <= len(b):
        length, type = struct.unpack_from('=HH', b, at)
        found[type & 0x3fff] = b[at + 4:at + length]; at += (length + 3) & ~3
    return found
def told(type, flags, body):
    if type in (2, 3): return [type, struct.unpack_from('=i', body)[0]]
    found = attributes(body[4:])
    if type == 0x100: return [type, flags, body[0]] + [found.get(t, b'').hex() for t in (1, 2, 3, 8, 18)]
    if type == 0x105: return [type, found[1].hex()]
    if type == 0x104: return [type]
    return [type, flags, body.hex()]
A, B = bytes([10, 0, 0, 0]), bytes([172, 16, 0, 1])
def ends(n, reply=False):
    a = bytes([10, n >> 16 & 255, n >> 8 & 255, n & 255]); b = B
    ports = (0x1000, 53)
    if reply: a, b, ports = b, a, (53, 0x1000)
    return a, b, ports
def ip(a, b): return nest(1, attr(1, a) + attr(2, b))
def proto(number, ports): return nest(2, attr(1, bytes([number])) + attr(2, be16(ports[0])) + attr(3, be16(ports[1])))
def tuple_of(n, reply=False):
    a, b, ports = ends(n, reply)
    return ip(a, b) + proto(17, ports)
if is_kernel:
    for n in range(200):
        zone = attr(18, be16(n % 10)) if n % 10 else b''
        made = ask(message(0x100, 0x404, nest(1, tuple_of(n)) + nest(2, tuple_of(n, True)) + attr(7, be32(600)) + zone, 2))
        assert told(*made[0])[1] == 0, made
    ask(message(0x803, 4, attr(2, be16(2)) + attr(3, b'\\x11') + nest(4, attr(1, be32(600)))))
r = random.Random(seed)
def pick(*choices): return r.choice(choices)
def odd_tuple():
    n = r.randrange(220)
    a, b, ports = ends(n, r.random() < .3)
    kind = r.randrange(14)
    if kind < 6: return ip(a, b) + proto(17, ports)
    if kind == 6: return proto(17, ports)
    if kind == 7: return ip(a, b)
    if kind == 8: return nest(1, attr(1, a)) + proto(17, ports)
    if kind == 9: return ip(a, b) + nest(2, attr(1, bytes([pick(17, 6, 47, 132, 99)])))
    if kind == 10: return ip(a, b) + nest(2, attr(1, bytes([pick(1, 58)])) + attr(pick(4, 7), be16(1)) + attr(pick(5, 8), bytes([pick(8, 0, 3, 13, 128, 129, 255)])) + attr(pick(6, 9), b'\\0'))
    if kind == 11: return ip(a, b) + nest(2, attr(1, b'\\x11') + attr(2, be16(1)[:pick(0, 1, 2)]) + attr(3, be16(2)))
    if kind == 12: return ip(a, b) + proto(17, ports) + attr(3, be16(n % 10)[:pick(1, 2, 2, 2)])
    return nest(1, attr(1, a[:pick(0, 2, 4)]) + attr(2, b) + attr(3, bytes(pick(8, 16)))) + proto(17, ports)
def some(*choices): return b''.join(c() for c in choices if r.random() < .35)
def zone(): return attr(18, be16(pick(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 77))[:pick(0, 1, 2, 2, 2, 2, 2, 2, 2)])
def mark(): return attr(8, be32(pick(0, 0, 1))[:pick(4, 4, 4, 2)])
def mask(): return attr(21, be32(pick(0, 1, 0xffffffff))[:pick(4, 4, 4, 1)])
def status(): return attr(3, be32(pick(8, 8, 2, 0, 10))[:pick(4, 4, 4, 3)])
def status_mask(): return attr(26, be32(pick(8, 2, 0)))
def labels(): return attr(22, bytes(pick(0, 16, 16, 17)))
def strange(): return attr(pick(4, 5, 6, 7, 12, 13, 14, 15, 23, 27, 40, 99), bytes(pick(0, 1, 2, 4, 8)))
def connection_request():
    command = pick(1, 1, 1, 1, 2, 2, 2, 3, 4, 5, 6, 7, 8, 200)
    flags = pick(0, 4, 4, 4, 4, 0x100, 0x200, 0x300, 0x304) if command != 2 else pick(4, 4, 4, 0x304)
    payload = b''
    if r.random() < .7: payload += nest(1, odd_tuple())
    if r.random() < .15: payload += nest(2, odd_tuple())
    if command == 2 and not payload: payload += nest(1, odd_tuple())
    return message(0x100 | command, flags, payload + some(zone, zone, mark, mask, status, status_mask, labels, strange), pick(0, 2, 2, 2, 2, 2, 10, 3), pick(0, 0, 1))
names = ['a', 'b', 'ovs_tp_0_tcp4', 'x' * 31, 'x' * 32, '']
def time_out_request():
    command = pick(0, 0, 0, 1, 1, 2, 3, 4, 5, 9)
    payload = b''
    # The kernel takes an empty name for a new policy.
    if r.random() < .85: payload += attr(1, pick(*names[:5 if command == 0 else 6]).encode() + pick(b'\\0', b'\\0', b'\\0', b'\\0', b''))
    if r.random() < .9: payload += attr(2, be16(pick(2, 2, 10, 77))[:pick(2, 2, 2, 1)])
    if r.random() < .9: payload += attr(3, bytes([pick(6, 6, 17, 1, 58, 47, 255, 99)])[:pick(1, 1, 1, 1, 0)])
    if r.random() < .9: payload += nest(4, b''.join(attr(r.randrange(14), be32(r.randrange(1, 900000))[:pick(4, 4, 4, 4, 4, 2)]) for _ in range(r.randrange(4))))
    return message(0x800 | command, 4 | pick(0, 0, 0x100, 0x200, 0x500, 0x504) if command == 0 else pick(0, 4, 4, 0x300), payload)
def expectation_request():
    return message(0x200 | pick(1, 2, 3, 4), 4, b'', pick(0, 2))
def broken(m):
    m = bytearray(m)
    for _ in range(pick(1, 1, 2)):
        if len(m) > 20: m[r.randrange(20, len(m))] = pick(0, 1, 4, 8, r.randrange(128))
    return bytes(m)
# Dumps are long: of what has many messages a digest is enough.
def digest(answers):
    texts = sorted({json.dumps(each) for each in answers})
    return texts if len(texts) < 3 else [len(texts), hashlib.sha1(''.join(texts).encode()).hexdigest()]
results = []
for i in range(count):
    make = pick(connection_request, connection_request, time_out_request, expectation_request)
    m = make()
    # A broken deletion might end all connections, and nothing would be left to look at.
    if r.random() < .2 and (m[5] != 1 or m[4] != 2): m = broken(m)
    answers = [told(*each) for each in ask(m)]
    results.append([m.hex(), digest([each for each in answers if each[0] not in (2, 3)]), [each for each in answers if each[0] in (2, 3)]])
results.append(['left', digest([told(*each) for each in ask(message(0x101, 0x300))]), []])
for z in (3, 0): results.append(['flush', [], [told(*each) for each in ask(message(0x102, 4, attr(18, be16(z))))], len(ask(message(0x101, 0x300)))])
results.append(['flush', [], [told(*each) for each in ask(message(0x102, 4))], len(ask(message(0x101, 0x300)))])
print(json.dumps(results))
`;

type Result = [request: string, told: (string | number)[], ends: number[][], left?: number];

/** Put the requests of a seed to the kernel, or to the datapath process. */
function answers(seed: number, side: 'kernel' | 'ours'): Result[] {
  const shim = side === 'kernel' ? [] : [`LD_PRELOAD=${world.shim}`, `MILLRACE_OVS_SOCKET=${world.socket}`];
  const namespace = world.namespace(side === 'kernel' ? 'kernel' : 'sw');
  const program = ['python3', '-c', PROGRAM, String(seed), String(REQUESTS), side];
  const outcome = world.run('ip', ['netns', 'exec', namespace, 'env', ...shim, ...program]);
  if (outcome.code !== 0) throw new Error(outcome.stderr);
  return JSON.parse(outcome.stdout) as Result[];
}

test('the kernel and the datapath answer the same to whole, odd and broken requests', () => {
  const kernel = answers(1, 'kernel');
  const ours = answers(1, 'ours');
  expect(ours.length).toBe(kernel.length);
  const unlike = ours.flatMap((result, i) => {
    const other = kernel[i];
    return JSON.stringify(result) === JSON.stringify(other) ? [] : [{ ours: result, kernel: other }];
  });
  expect(unlike.slice(0, 3), `${unlike.length} of ${kernel.length}`).toEqual([]);
  // Requests of each outcome were among them.
  const errnos = new Set(kernel.flatMap(([, , ends]) => ends.map(([, errno]) => errno)));
  for (const errno of [0, -2, -16, -17, -22, -34, -95]) expect(errnos).toContain(errno);
  expect(kernel.filter(([, told]) => told.length > 0).length).toBeGreaterThan(REQUESTS / 20);
});
