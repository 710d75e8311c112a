/** Whole programs under the shim: of many threads, that fork and exec, whose daemon dies; and netfilter's sockets. Python is one of them. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { OvsWorld, until } from './ovs-world.ts';

let world: OvsWorld;
let daemon: ChildProcess;

beforeAll(async () => {
  world = new OvsWorld();
  daemon = await world.startDatapath();
});

afterAll(async () => {
  await world.close();
});

const PRELUDE = `
import errno, json, os, signal, socket, struct, subprocess, sys, threading, time
GENERIC, NETFILTER, DONTWAIT = 16, 12, socket.MSG_DONTWAIT
def open_socket(protocol=GENERIC):
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
def message(type, flags, seq, payload=b''):
    return struct.pack('=IHHII', 16 + len(payload), type, flags, seq, 0) + payload
def family(name, seq):
    name = name.encode() + b'\\0'
    attribute = struct.pack('=HH', 4 + len(name), 2) + name
    return message(16, 1, seq, struct.pack('=BBH', 3, 1, 0) + attribute + b'\\0' * (-len(attribute) % 4))
def connections(subsystem, command, flags, seq=1, payload=b''):
    return message(subsystem << 8 | command, flags | 1, seq, bytes(4) + payload)
def parse(datagram):
    at, found = 0, []
    while at < len(datagram):
        length, type, flags, seq, port = struct.unpack_from('=IHHII', datagram, at)
        error = struct.unpack_from('=i', datagram, at + 16)[0] if type == 2 else 0
        found.append((type, seq, port, error))
        at += (length + 3) & ~3
    return found
def transact(s, name, seq):
    s.send(family(name, seq))
    return parse(s.recv(65536, DONTWAIT))[0]
def failure(call):
    try:
        return call()
    except OSError as e:
        return errno.errorcode[e.errno]
`;

/** Run a Python program, under the shim unless told otherwise. @returns what its last line says, as JSON */
function python(body: string, variables: Record<string, string> = {}): unknown {
  const settings = { LD_PRELOAD: world.shim, MILLRACE_OVS_SOCKET: world.socket, ...variables };
  const environment = Object.entries(settings).map(([name, value]) => `${name}=${value}`);
  const namespace = ['netns', 'exec', world.namespace('sw')];
  const outcome = world.run('ip', [...namespace, 'env', ...environment, 'python3', '-c', `${PRELUDE}\n${body}`]);
  if (outcome.code !== 0) throw new Error(outcome.stderr);
  return JSON.parse(outcome.stdout.trim().split('\n').at(-1) ?? 'null');
}

test('threads with sockets of their own, and threads that share one, all get their answers', () => {
  const wrong = python(`
wrong, shared, lock = [], open_socket(), threading.Lock()
def own(number):
    s = open_socket()
    port = s.getsockname()[0]
    for seq in range(1, 400):
        type, got, to, error = transact(s, ('ovs_flow', 'ovs_vport', 'nlctrl')[seq % 3], number * 1000 + seq)
        if (type, got, to) != (16, number * 1000 + seq, port): wrong.append((type, got, to, error))
def together(number):
    for seq in range(1, 200):
        shared.send(family('ovs_flow', number * 1000 + seq))
threads = [threading.Thread(target=own, args=(n,)) for n in range(6)] + [threading.Thread(target=together, args=(n,)) for n in range(10, 13)]
[t.start() for t in threads]; [t.join() for t in threads]
heard = sorted(parse(shared.recv(65536, DONTWAIT))[0][1] for _ in range(3 * 199))
print(json.dumps([wrong, heard == sorted(n * 1000 + s for n in (10, 11, 12) for s in range(1, 200)), failure(lambda: shared.recv(9, DONTWAIT))]))`);
  expect(wrong).toEqual([[], true, 'EAGAIN']);
});

test('threads that end give their memory back', () => {
  const growth = python(
    `
def size(): return int(open('/proc/self/statm').read().split()[0]) * 4096
def once():
    t = threading.Thread(target=lambda: transact(open_socket(), 'ovs_flow', 1)); t.start(); t.join()
for _ in range(5): once()
before = size()
for _ in range(60): once()
print(size() - before)`,
    { MALLOC_ARENA_MAX: '1' },
  );
  expect(growth).toBeLessThan(20 << 20);
});

test('a forked child works on with what it inherited and with sockets of its own', () => {
  const results = python(`
s = open_socket(); results = [transact(s, 'ovs_flow', 1)[0]]
inside, outside = os.pipe()
if os.fork() == 0:
    own = open_socket()
    os.write(outside, json.dumps([transact(s, 'ovs_vport', 2)[1], transact(own, 'ovs_flow', 3)[1], own.getsockname() != s.getsockname()]).encode())
    os._exit(0)
os.wait()
print(json.dumps(results + json.loads(os.read(inside, 1000)) + [transact(s, 'ovs_flow', 4)[1]]))`);
  expect(results).toEqual([16, 2, 3, true, 4]);
});

test('children that are started by vfork, and close all descriptors, leave the sockets of their parent alone', () => {
  const results = python(`
s, stop, bad = open_socket(), False, []
port = s.getsockname()
def work():
    seq = 0
    while not stop:
        seq += 1
        if transact(s, 'ovs_flow', seq)[1] != seq: bad.append(seq)
t = threading.Thread(target=work); t.start()
for _ in range(30): subprocess.run(['true'], close_fds=True, check=True)
for _ in range(10): subprocess.run(['true'], close_fds=False, check=True)
stop = True; t.join()
print(json.dumps([bad, s.getsockname() == port]))`);
  expect(results).toEqual([[], true]);
});

test('sockets are closed on exec when they ask for it, and stay when they do not', () => {
  const links = python(`
look = 'import os, json; print(json.dumps([os.readlink("/proc/self/fd/" + f) for f in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + f)]))'
closed, kept = open_socket(), open_socket()
kept.set_inheritable(True)
names = [os.readlink('/proc/self/fd/%d' % s.fileno()) for s in (closed, kept)]
seen = json.loads(subprocess.run([sys.executable, '-c', look], close_fds=False, capture_output=True, text=True).stdout)
print(json.dumps([name in seen for name in names]))`);
  expect(links).toEqual([false, true]);
});

test('a program whose children end all the time is not disturbed', () => {
  const wrong = python(`
ended, wrong, s = 0, [], open_socket()
def reap(*_):
    global ended
    try:
        while os.waitpid(-1, os.WNOHANG)[0]: ended += 1
    except ChildProcessError: pass
signal.signal(signal.SIGCHLD, reap)
signal.signal(signal.SIGALRM, lambda *_: None); signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
for seq in range(1, 300):
    if seq % 3 == 0 and os.fork() == 0: os._exit(0)
    if transact(s, 'ovs_flow', seq)[1] != seq: wrong.append(seq)
signal.setitimer(signal.ITIMER_REAL, 0)
print(json.dumps([wrong, ended > 50]))`);
  expect(wrong).toEqual([[], true]);
});

test("when nothing is said of a daemon, sockets are the kernel's", () => {
  const body = `
s = open_socket()
print(json.dumps([transact(s, 'nlctrl', 1)[0], transact(s, 'ovs_flow', 2)[3] in (-2, 0)]))`;
  expect(python(body, { MILLRACE_OVS_SOCKET: '' })).toEqual([16, true]);
  const unset = world.run('env', [
    '-u',
    'MILLRACE_OVS_SOCKET',
    `LD_PRELOAD=${world.shim}`,
    'python3',
    '-c',
    PRELUDE + body,
  ]);
  expect(unset.stdout).toBe('[16, true]\n');
});

test('a path that leads to no daemon fails, each time with its own errno', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-shim-'));
  try {
    writeFileSync(join(folder, 'file'), '');
    const at = (path: string) => python('print(json.dumps(failure(open_socket)))', { MILLRACE_OVS_SOCKET: path });
    expect(at(join(folder, 'none'))).toBe('ENOENT');
    expect(at(join(folder, 'file'))).toBe('ECONNREFUSED');
    expect(at(join(folder, 'x'.repeat(120)))).toBe('ENAMETOOLONG');
    // Servers that speak something else: one ends the connection, one says hello in a tongue of its own.
    const strangers = python(
      `
server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); server.bind('${folder}/stranger'); server.listen(9)
def serve():
    server.accept()[0].close()
    c = server.accept()[0]; c.send(struct.pack('=III', 9, 77, 99)); time.sleep(1)
threading.Thread(target=serve, daemon=True).start()
print(json.dumps([failure(open_socket), failure(open_socket)]))`,
      { MILLRACE_OVS_SOCKET: join(folder, 'stranger') },
    );
    expect(strangers).toEqual(['ECONNRESET', 'EPROTO']);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test('threads that wait for a daemon that hangs and dies all come back with an error', async () => {
  const other = new OvsWorld();
  try {
    const hung = await other.startDatapath();
    const mark = join(other.folder, 'mark');
    const body = `
results, ready = [], threading.Barrier(5)
def sender():
    s = open_socket(); ready.wait(); time.sleep(0.5)
    results.append(failure(lambda: s.send(family('ovs_flow', 1))))
def reader():
    s = open_socket(); ready.wait()
    results.append(failure(lambda: s.recv(100)))
threads = [threading.Thread(target=f) for f in (sender, sender, reader, reader)]
[t.start() for t in threads]; ready.wait(); open('${mark}', 'w').close()
[t.join() for t in threads]
print(json.dumps(sorted(results)))`;
    const environment = { ...process.env, LD_PRELOAD: other.shim, MILLRACE_OVS_SOCKET: other.socket };
    const child = spawn('python3', ['-c', `${PRELUDE}\n${body}`], {
      env: environment,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let printed = '';
    child.stdout.on('data', (text) => {
      printed += text;
    });
    const ended = new Promise((resolve) => child.on('close', resolve));
    await until('the threads are there', () => existsSync(mark));
    hung.kill('SIGSTOP');
    await new Promise((resolve) => setTimeout(resolve, 1000));
    hung.kill('SIGKILL');
    await ended;
    const errors = JSON.parse(printed) as string[];
    expect(errors.length).toBe(4);
    for (const error of errors) expect(['ECONNRESET', 'EPIPE']).toContain(error);
  } finally {
    await other.close();
  }
});

test("a program under the shim sees the datapath's connections, which are none, and never the machine's", () => {
  // One connection, put by hand into the table of the namespace.
  const attribute = (type: number, content: string) => `attribute(${type}, ${content})`;
  const tuple = (source: number, destination: number) =>
    `${attribute(1, `${attribute(1, `bytes([10,0,0,${source}])`)} + ${attribute(2, `bytes([10,0,0,${destination}])`)}`)} + ${attribute(2, `${attribute(1, 'bytes([17])')} + ${attribute(2, 'bytes([0,7])')} + ${attribute(3, 'bytes([0,8])')}`)}`;
  const common = `
def attribute(type, content): return struct.pack('=HH', 4 + len(content), type) + content + bytes(-len(content) % 4)
def count():
    s.send(connections(1, 1, 0x300)); found = 0
    while True:
        messages = parse(s.recv(65536))
        found += sum(1 for m in messages if m[0] == 0x100)
        if any(m[0] in (2, 3) for m in messages): return found
s = open_socket(NETFILTER); s.bind((0, 0))
def ask(m): s.send(m); return parse(s.recv(65536))[0]
`;
  const put = `
content = ${attribute(1, tuple(1, 2))} + ${attribute(2, tuple(2, 1))} + ${attribute(7, 'bytes([0,0,1,0])')}
print(json.dumps([ask(struct.pack('=IHHIIBBH', 20 + len(content), 0x100, 0x405, 1, 0, 2, 0, 0) + content)[3], count()]))`;
  const outside = { LD_PRELOAD: '', MILLRACE_OVS_SOCKET: '' };
  expect(python(common + put, outside)).toEqual([0, 1]);
  const seen = python(`${common}
port = s.getsockname()[0]
flush = ask(connections(1, 2, 4, 5))
print(json.dumps([count(), list(flush), port, ask(connections(1, 1, 0, 6))[3], failure(lambda: s.recv(9, DONTWAIT))]))`);
  const [connections, flush, port, missing, end] = seen as [number, number[], number, number, string];
  expect([connections, missing, end]).toEqual([0, -22, 'EAGAIN']);
  expect(flush).toEqual([2, 5, port, 0]);
  expect(python(`${common}\nprint(count())`, outside)).toBe(1);
});

test('a socket of netfilter asks the next daemon when its own has gone, and so does a forked child beside its parent', async () => {
  const other = new OvsWorld();
  try {
    const first = await other.startDatapath();
    const mark = join(other.folder, 'mark');
    const body = `
s = open_socket(NETFILTER); s.bind((0, 0))
def totals(seq):
    s.send(connections(1, 5, 0, seq)); return parse(s.recv(65536))[0][:2] == (0x105, seq)
results = [totals(1)]
inside, outside = os.pipe()
child = os.fork()
mine = all(totals(seq) for seq in range(2, 300))
if child == 0:
    os.write(outside, json.dumps(mine).encode()); os._exit(0)
os.wait()
results += [mine, json.loads(os.read(inside, 100))]
open('${mark}', 'w').close()
while os.path.exists('${mark}'): time.sleep(0.05)
results += [totals(300), totals(301), len(os.listdir('/proc/self/fd'))]
s.close()
print(json.dumps(results[:-1] + [results[-1] - len(os.listdir('/proc/self/fd'))]))`;
    const environment = { ...process.env, LD_PRELOAD: other.shim, MILLRACE_OVS_SOCKET: other.socket };
    const child = spawn('python3', ['-c', `${PRELUDE}\n${body}`], {
      env: environment,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let printed = '';
    child.stdout.on('data', (text) => {
      printed += text;
    });
    const ended = new Promise((resolve) => child.on('close', resolve));
    await until('the program waits', () => existsSync(mark));
    first.kill('SIGKILL');
    await other.startDatapath();
    rmSync(mark);
    await ended;
    // The socket and its connection to the daemon are closed together.
    expect(JSON.parse(printed)).toEqual([true, true, true, true, true, 2]);
  } finally {
    await other.close();
  }
});

test('groups that tell of connections can be joined, and stay silent', () => {
  const heard = python(`
s = open_socket(NETFILTER); s.bind((0, 0x3f))
for group in range(1, 7): s.setsockopt(270, 1, group)
joined = os.popen("awk '$2 == 12 && $3 == %d {print $4}' /proc/net/netlink" % (s.getsockname()[0])).read().strip()
print(json.dumps([int(joined, 16), failure(lambda: s.recv(9, DONTWAIT))]))`);
  expect(heard).toEqual([0, 'EAGAIN']);
});

test('other messages to netfilter reach the kernel', () => {
  // The generation of nftables' rules, or what a kernel without nftables says: the same with and without the shim.
  const body = `
s = open_socket(NETFILTER); s.bind((0, 0))
s.send(connections(10, 16, 4)); print(json.dumps(parse(s.recv(65536))[0][0::3]))`;
  expect(python(body)).toEqual(python(body, { LD_PRELOAD: '', MILLRACE_OVS_SOCKET: '' }));
});

test('after all that the daemon serves on', () => {
  expect(daemon.exitCode).toBe(null);
  expect(python(`print(transact(open_socket(), 'ovs_flow', 1)[0])`)).toBe(16);
});
