/** Connections that others announce: FTP in all its forms and TFTP, with and without translation, and sequence numbers that are shifted for it. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { describe as describeFrame, Tcp } from '../../net/index.ts';
import { ConnectionAction, type ConnectionRequest } from '../action.ts';
import { describeConnection } from '../describe.ts';
import { ConnectionEvent } from '../events.ts';
import { ControlWord } from '../layout.ts';
import { ConnectionTable, Removal } from '../table.ts';
import { type End, end, tcp, udp } from '../testing/frames.ts';
import { Lab, packetOf } from '../testing/lab.ts';
import { Tracker } from '../tracker.ts';
import { FtpAnnouncement, FtpForm } from './ftp.ts';
import { LineStarts } from './line-starts.ts';

function payloadOf(frame: Uint8Array): string {
  const header = frame[12] === 0x86 ? 54 : 14 + (frame[14] & 15) * 4;
  const view = Tcp.parse(frame, header);
  const options = (frame[header + 12] >>> 4) << 2;
  expect(view.sourcePort).toBeGreaterThan(0);
  return Buffer.from(frame.subarray(header + options)).toString();
}

function isGood(frame: Uint8Array): boolean {
  return describeFrame(frame).every(
    ({ error, fields }) => error === undefined && (fields.checksumState ?? 'good') === 'good',
  );
}

function tcpFields(frame: Uint8Array): { sequence: number; acknowledgment: number } {
  return Tcp.parse(frame, frame[12] === 0x86 ? 54 : 14 + (frame[14] & 15) * 4);
}

/** A control connection, each side of which counts what it sends and has received, as a real one would. */
class Control {
  readonly lab: Lab;
  readonly client: End;
  readonly server: End;
  /** What the client calls the server, and the server the client. */
  readonly serverSeen: End;
  readonly clientSeen: End;
  readonly #first: ConnectionRequest;
  #sent = { client: 1000, server: 70_000 };
  #received = { client: 0, server: 0 };

  constructor(client: End, serverSeen: End, server: End, clientSeen: End, nat?: ConnectionRequest['nat']) {
    this.lab = new Lab();
    this.client = client;
    this.server = server;
    this.serverSeen = serverSeen;
    this.clientSeen = clientSeen;
    this.#first = { commit: true, helper: 'ftp', mark: { value: 7, mask: -1 }, ...(nat === undefined ? {} : { nat }) };
    expect(this.fromClient('', 'S', this.#first).state).toContain('new|trk');
    expect(this.fromServer('', 'S.').state).toContain('est|rpl|trk');
    expect(this.fromClient('', '.').state).toContain('est|trk');
  }

  /** What arrives on the other side; sequence numbers are compared with what that side expects. */
  fromClient(payload: string, flags = 'P.', request: ConnectionRequest = { nat: {} }) {
    const fields = { sequence: this.#sent.client, acknowledgment: flags.includes('.') ? this.#received.client : 0 };
    const sent = this.lab.send(tcp(this.client, this.serverSeen, flags, fields, payload), request);
    const syn = flags.includes('S') ? 1 : 0;
    this.#sent.client += payload.length + syn;
    const { sequence } = tcpFields(sent.frame);
    if (this.#received.server !== 0) expect(sequence).toBe(this.#received.server);
    this.#received.server = sequence + payloadOf(sent.frame).length + syn;
    expect(isGood(sent.frame)).toBe(true);
    if (flags.includes('.')) expect(tcpFields(sent.frame).acknowledgment).toBe(this.#sent.server);
    return sent;
  }

  fromServer(payload: string, flags = 'P.', request: ConnectionRequest = { nat: {} }) {
    const fields = { sequence: this.#sent.server, acknowledgment: this.#received.server };
    const sent = this.lab.send(tcp(this.server, this.clientSeen, flags, fields, payload), request);
    const syn = flags.includes('S') ? 1 : 0;
    this.#sent.server += payload.length + syn;
    const { sequence } = tcpFields(sent.frame);
    if (this.#received.client !== 0) expect(sequence).toBe(this.#received.client);
    this.#received.client = sequence + payloadOf(sent.frame).length + syn;
    expect(isGood(sent.frame)).toBe(true);
    expect(tcpFields(sent.frame).acknowledgment).toBe(this.#sent.client);
    return sent;
  }
}

const data: ConnectionRequest = { commit: true, nat: {} };
const [c4, s4, public4] = ['10.0.0.1', '192.0.2.9', '198.51.100.200'];
const [c6, s6, public6] = ['fd00::1', '2001:db8::9', '2001:db8:1:2:3:4:5:6'];

test.each([
  ['PORT 10,0,0,1,4,5\r\n', c4, s4],
  ['EPRT |1|10.0.0.1|1029|\r\n', c4, s4],
  ['EPRT |2|fd00::1|1029|\r\n', c6, s6],
])('the server may open the data connection that %j announces, once, and nobody else', (command, client, server) => {
  const control = new Control(end(client, 2000), end(server, 21), end(server, 21), end(client, 2000));
  expect(control.lab.send(tcp(end(server, 20), end(client, 1029), 'S'), { commit: true }).state).toBe('new|trk');
  control.lab.table.flush((record) => record > 1);
  control.fromClient(command);
  const { lab } = control;
  expect(lab.send(tcp(end(server, 20), end(client, 1030), 'S')).state).toBe('new|trk');
  expect(lab.send(tcp(end(server, 20), end(client, 1029), 'S')).state).toBe('new|rel|trk');
  const syn = lab.send(tcp(end(server, 20), end(client, 1029), 'S'), data);
  expect([syn.state, syn.tracked.mark]).toEqual(['new|rel|trk', 7]);
  // The packet is shown by the tuple of the control connection.
  expect(syn.tracked.original[0]).toBe((2000 << 16) | 21);
  const answer = lab.send(tcp(end(client, 1029), end(server, 20), 'S.', { acknowledgment: 1 }));
  expect([answer.state, answer.tracked.original[0]]).toEqual(['est|rel|rpl|trk', (2000 << 16) | 21]);
  expect(lab.send(tcp(end(server, 22), end(client, 1029), 'S')).state).toBe('new|trk');
  expect(lab.drain()).toEqual({ size: 0, zones: 0, ports: 0, index: 0 });
});

test.each([
  ['227 Entering Passive Mode (192,0,2,9,4,5)\r\n', c4, s4],
  ['227 Entering Passive Mode 192,0,2,9,4,5\r\n', c4, s4],
  ['229 Entering Extended Passive Mode (|||1029|)\r\n', c4, s4],
  ['229 Entering Extended Passive Mode (|||1029|)\r\n', c6, s6],
])('the client may open the data connection that %j announces', (reply, client, server) => {
  const control = new Control(end(client, 2000), end(server, 21), end(server, 21), end(client, 2000));
  control.fromServer(reply);
  expect(control.lab.send(tcp(end(client, 5), end(server, 1029), 'S'), data).state).toBe('new|rel|trk');
});

test.each([
  ['PORT 10,0,0,1,4,5\r\n', `PORT ${public4.replaceAll('.', ',')},4,5\r\n`, c4, s4, public4],
  ['EPRT |1|10.0.0.1|1029|\r\n', `EPRT |1|${public4}|1029|\r\n`, c4, s4, public4],
  ['EPRT |2|fd00::1|1029|\r\n', `EPRT |2|${public6}|1029|\r\n`, c6, s6, public6],
])(
  'a client behind a translation announces itself by %j, and the server hears %j',
  (command, heard, client, server, outside) => {
    const nat = { source: { addresses: [outside, outside] as const } };
    const control = new Control(end(client, 2000), end(server, 21), end(server, 21), end(outside, 2000), nat);
    const { lab } = control;
    expect(payloadOf(control.fromClient(command).frame)).toBe(heard);
    control.fromServer('200 OK\r\n');
    control.fromClient('RETR file\r\n');
    control.fromServer('150 here it comes\r\n');
    const syn = lab.send(tcp(end(server, 20), end(outside, 1029), 'S'), data);
    expect(syn.state).toBe('new|rel|trk|dnat');
    expect(syn.frame).toEqual(tcp(end(server, 20), end(client, 1029), 'S'));
    const back = lab.send(tcp(end(client, 1029), end(server, 20), 'S.', { acknowledgment: 1 }), { nat: {} });
    expect(back.frame).toEqual(tcp(end(outside, 1029), end(server, 20), 'S.', { acknowledgment: 1 }));
    // A second announcement shifts once more.
    control.fromClient(command);
    control.fromServer('200 OK\r\n');
    control.fromClient('', '.');
  },
);

test('a server behind a translation tells the address that its clients know', () => {
  const nat = { destination: { addresses: ['10.9.9.9', '10.9.9.9'] as const } };
  const control = new Control(end(c4, 2000), end(public4, 21), end('10.9.9.9', 21), end(c4, 2000), nat);
  const reply = control.fromServer('227 Entering Passive Mode (10,9,9,9,4,5)\r\n');
  expect(payloadOf(reply.frame)).toBe('227 Entering Passive Mode (198,51,100,200,4,5)\r\n');
  const syn = control.lab.send(tcp(end(c4, 9), end(public4, 1029), 'S'), data);
  expect([syn.state, syn.frame]).toEqual(['new|rel|trk|dnat', tcp(end(c4, 9), end('10.9.9.9', 1029), 'S')]);
  control.fromClient('RETR x\r\n');
});

test('two clients behind one address that announce the same port get two ports', () => {
  const nat = { source: { addresses: [public4, public4] as const } };
  const control = new Control(end(c4, 2000), end(s4, 21), end(s4, 21), end(public4, 2000), nat);
  const { lab } = control;
  control.fromClient('PORT 10,0,0,1,4,5\r\n');
  const other = end('10.0.0.2', 2001);
  lab.send(tcp(other, end(s4, 21), 'S'), { commit: true, helper: 'ftp', nat });
  lab.send(tcp(end(s4, 21), end(public4, 2001), 'S.', { acknowledgment: 1 }), { nat: {} });
  const { frame } = lab.send(
    tcp(other, end(s4, 21), '.', { sequence: 1, acknowledgment: 1 }, 'PORT 10,0,0,2,4,5\r\n'),
    {
      nat: {},
    },
  );
  expect(payloadOf(frame)).toBe('PORT 198,51,100,200,4,6\r\n');
  const syn = lab.send(tcp(end(s4, 20), end(public4, 1030), 'S'), data);
  expect(syn.frame).toEqual(tcp(end(s4, 20), end('10.0.0.2', 1029), 'S'));
});

test('a segment that is sent again is shifted by as much as the first time', () => {
  const nat = { source: { addresses: [public4, public4] as const } };
  const control = new Control(end(c4, 2000), end(s4, 21), end(s4, 21), end(public4, 2000), nat);
  const command = tcp(
    end(c4, 2000),
    end(s4, 21),
    'P.',
    { sequence: 1001, acknowledgment: 70_001 },
    'PORT 10,0,0,1,4,5\r\n',
  );
  const first = control.lab.send(command, { nat: {} });
  const again = control.lab.send(command, { nat: {} });
  expect(again.frame).toEqual(first.frame);
  const next = tcp(end(c4, 2000), end(s4, 21), '.', { sequence: 1020, acknowledgment: 70_001 });
  expect(tcpFields(control.lab.send(next, { nat: {} }).frame).sequence).toBe(1020 + 6);
});

test('shifted sequence numbers outlive the process', () => {
  const nat = { source: { addresses: [public4, public4] as const } };
  const control = new Control(end(c4, 2000), end(s4, 21), end(s4, 21), end(public4, 2000), nat);
  control.fromClient('PORT 10,0,0,1,4,5\r\n');
  const { lab } = control;
  const { table } = ConnectionTable.adopt(lab.memory, { nowMs: () => lab.nowMs });
  const after = Object.assign(new Lab(), { tracker: new Tracker({ table }), table });
  const next = tcp(end(c4, 2000), end(s4, 21), '.', { sequence: 1020, acknowledgment: 70_001 });
  const { state, frame } = after.send(next, { nat: {} });
  expect([state, tcpFields(frame).sequence]).toEqual(['est|trk|snat', 1026]);
  table.flush();
  const again = new Tracker({ table: ConnectionTable.adopt(lab.memory, { nowMs: () => lab.nowMs }).table });
  expect(again.table.size).toBe(0);
});

test('where a packet has no room for a longer address it is refused, and is whole when it comes again with room', () => {
  const nat = { source: { addresses: [public4, public4] as const } };
  const control = new Control(end(c4, 2000), end(s4, 21), end(s4, 21), end(public4, 2000), nat);
  const command = tcp(
    end(c4, 2000),
    end(s4, 21),
    'P.',
    { sequence: 1001, acknowledgment: 70_001 },
    'PORT 10,0,0,1,4,5\r\n',
  );
  expect(control.lab.sendPacket(packetOf(command, 3), { nat: {} }).state).toBe('helper-room');
  const { frame } = control.lab.sendPacket(packetOf(command, 6), { nat: {} });
  expect(payloadOf(frame)).toBe('PORT 198,51,100,200,4,5\r\n');
});

test('what one side says before the other has answered opens no way', () => {
  const lab = new Lab();
  const request = { commit: true, helper: 'ftp' } as const;
  const command = (sequence: number) =>
    tcp(end(c4, 2000), end(s4, 21), 'P.', { sequence, acknowledgment: 70_001 }, 'PORT 10,0,0,1,4,5\r\n');
  const data = () => lab.send(tcp(end(s4, 20), end(c4, 1029), 'S')).state;
  lab.send(command(1001), request);
  lab.send(command(1001), request);
  expect([lab.table.size, data()]).toEqual([1, 'new|trk']);
  lab.send(tcp(end(s4, 21), end(c4, 2000), '.', { sequence: 70_001, acknowledgment: 1020 }));
  expect(data()).toBe('new|trk');
  expect(lab.send(command(1020), request).state).toBe('est|trk');
  expect(data()).toBe('new|rel|trk');
});

test('what begins in the middle of a line announces nothing, from either side, and what begins the next one does', () => {
  for (const [first, announcement] of [
    ['STOR x', 'PORT 10,0,0,1,4,5\r\n'],
    ['220 welcome ', '227 Entering Passive Mode (192,0,2,9,4,5)\r\n'],
  ]) {
    const control = new Control(end(c4, 2000), end(s4, 21), end(s4, 21), end(c4, 2000));
    const isCommand = announcement.startsWith('PORT');
    const send = (text: string) => (isCommand ? control.fromClient(text) : control.fromServer(text));
    const [from, to] = isCommand ? [s4, c4] : [c4, s4];
    const data = () => control.lab.send(tcp(end(from, 20), end(to, 1029), 'S')).state;
    for (const before of [first, 'and so on\r\n', 'NOOP\r\n', first]) {
      send(before);
      expect(data(), before).toBe('new|trk');
    }
    send(announcement);
    expect(data()).toBe('new|trk');
    send(announcement);
    expect(data()).toBe('new|rel|trk');
  }
});

test('two connections do not share what is known of their lines, and nothing is known of one that has ended', () => {
  const lines = new LineStarts();
  expect([lines.isOne(1, 0, 100), lines.isOne(1, 0, 106), lines.isOne(1, 1, 106), lines.isOne(2, 0, 106)]).toEqual([
    true,
    false,
    true,
    true,
  ]);
  // The older of two makes room, around the end of the sequence numbers as well.
  for (const sequence of [0xffff_fff0, 5, 20]) lines.add(3, 0, sequence);
  expect([0xffff_fff0, 5, 20].map((sequence) => lines.isOne(3, 0, sequence))).toEqual([false, true, true]);
  for (const record of [1, 2, 3]) lines.drop(record);
  expect([lines.size, lines.isOne(1, 0, 106)]).toEqual([0, true]);
});

test.each([
  ['a later packet', ''],
  ['the packet that brings it', 'PORT 10,0,0,1,4,5\r\n'],
])('a helper of a later commit reads %s', (_, payload) => {
  const lab = new Lab();
  const nat = { source: { addresses: [public4, public4] as const } };
  lab.send(tcp(end(c4, 2000), end(s4, 21), 'S', { sequence: 1000 }), { commit: true, nat });
  const answer = { sequence: 70_000, acknowledgment: 1001 };
  lab.send(tcp(end(s4, 21), end(public4, 2000), 'S.', answer), { nat: {} });
  const fields = { sequence: 1001, acknowledgment: 70_001 };
  const segment = (text: string) => tcp(end(c4, 2000), end(s4, 21), 'P.', fields, text);
  // A commit without one, a helper without a commit, and one that does not fit, change nothing.
  for (const request of [{ commit: true }, { helper: 'ftp' }, { commit: true, helper: 'tftp' }] as const) {
    lab.send(segment(''), { ...request, nat: {} });
    expect([describeConnection(lab.table, 1).helper, lab.tracker.mayChange(new ConnectionAction({}))]).toEqual([
      undefined,
      false,
    ]);
  }
  const before = lab.send(segment(''));
  const late = { commit: true, helper: 'ftp' } as const;
  expect(lab.tracker.mayChange(new ConnectionAction(late))).toBe(true);
  // The same packet has passed the zone before: then its helper reads it nevertheless.
  let told = 0;
  lab.tracker.events.listen(({ bits }) => {
    told |= bits[0];
  });
  lab.tracker.events.flush();
  told = 0;
  lab.send(segment(payload), late, 0, before.tracked);
  lab.tracker.events.flush();
  expect(told & ConnectionEvent.HELPER).toBe(ConnectionEvent.HELPER);
  expect(describeConnection(lab.table, 1).helper).toBe('ftp');
  if (payload === '') lab.send(segment('PORT 10,0,0,1,4,5\r\n'), late);
  expect(lab.send(tcp(end(s4, 20), end(public4, 1029), 'S')).state).toBe('new|rel|trk');
  expect(lab.drain()).toEqual({ size: 0, zones: 0, ports: 0, index: 0 });
});

test('what is expected stays expected when its connection finds no place in the index', () => {
  const lab = new Lab(8);
  lab.send(udp(end(c4, 3000), end(s4, 69), '\0\x01file\0octet\0'), { commit: true, helper: 'tftp' });
  const answer = udp(end(s4, 5555), end(c4, 3000), 'data');
  const { index } = lab.memory;
  const before = index.slice();
  // Entries of the record that is never used: each bucket is full, and none of them has another place to go to.
  for (let place = 0; place < index.length; place += 1) if (index[place] === 0) index[place] = 1;
  expect(lab.send(answer, data).state).toBe('table-full');
  expect([lab.table.counters.refusedIndex, lab.table.size]).toEqual([1, 1]);
  index.set(before);
  expect(lab.send(answer, data).state).toContain('new|rel|trk');
  expect(lab.send(udp(end(s4, 5556), end(c4, 3000))).state).toBe('new|trk');
});

test('a TFTP server may answer from any port, to the one that asked', () => {
  for (const nat of [undefined, { source: { addresses: [public4, public4] as const } }]) {
    const lab = new Lab();
    const request = { commit: true, helper: 'tftp', ...(nat === undefined ? {} : { nat }) } as const;
    lab.send(udp(end(c4, 3000), end(s4, 69), '\0\x01file\0octet\0'), request);
    const known = end(nat === undefined ? c4 : public4, 3000);
    expect(lab.send(udp(end('192.0.2.8', 5555), known)).state).toBe('new|trk');
    const answer = lab.send(udp(end(s4, 5555), known, 'data'), data);
    expect(answer.state).toContain('new|rel|trk');
    expect(answer.frame).toEqual(udp(end(s4, 5555), end(c4, 3000), 'data'));
    expect(lab.send(udp(end(s4, 5556), known, 'data')).state).toBe('new|trk');
    expect(lab.drain().size).toBe(0);
  }
});

test('what is announced is expected for five minutes, and no longer than its connection is there', () => {
  const lab = new Lab();
  const answer = () => lab.send(udp(end(s4, 5555), end(c4, 3000))).state;
  const ask = () => lab.send(udp(end(c4, 3000), end(s4, 69), '\0\x01f\0'), { commit: true, helper: 'tftp' });
  ask();
  expect(answer()).toBe('new|rel|trk');
  lab.table.flush();
  expect(answer()).toBe('new|trk');
  lab.table.timeOuts.setDefaults({ udp: { unreplied: 1_000_000 } });
  ask();
  lab.nowMs += 299_999;
  expect(answer()).toBe('new|rel|trk');
  lab.nowMs += 1;
  expect(answer()).toBe('new|trk');
});

test('who announces the address of another, a port of nobody or half a line announces nothing', () => {
  const control = new Control(end(c4, 2000), end(s4, 21), end(s4, 21), end(c4, 2000));
  for (const command of [
    'PORT 10,0,0,2,4,5\r\n',
    'PORT 10,0,0,1,0,0\r\n',
    'PORT 10,0,0,1,256,5\r\n',
    'PORT 10,0,0,1,4\r\n',
    'PORT 10,0,0,1,4,5',
    'EPRT |1|10.0.0.1|70000|\r\n',
    'EPRT |2|10.0.0.1|1029|\r\n',
    'XPORT 10,0,0,1,4,5\r\n',
    '227 (10,0,0,1,4,5)\r\n',
  ]) {
    control.fromClient(command);
    // The next one begins a line, whatever this one was.
    if (!command.endsWith('\n')) control.fromClient('\r\n');
    for (const port of [1029, 5]) {
      expect(control.lab.send(tcp(end(s4, 20), end(c4, port), 'S')).state, command).toBe('new|trk');
    }
  }
});

test('helpers are fed with garbage, and read only what is there', () => {
  const announcement = new FtpAnnouncement();
  const piece = fc.constantFrom(
    'PORT ',
    'EPRT ',
    '227 ',
    '229 ',
    '|',
    ',',
    '1',
    '255',
    '(',
    ')',
    '\r\n',
    ':',
    ' ',
    '\0',
    'é',
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 40 }), fc.nat(3), fc.constantFrom(0, 1), (pieces, skip, direction) => {
      const bytes = new TextEncoder().encode(`${'x'.repeat(skip)}${pieces.join('')}PORT 1,2,3,4,5,6\r\n`);
      const stop = Math.max(skip, bytes.length - 18);
      if (!announcement.read(bytes, skip, stop, direction)) return;
      expect(announcement.form).not.toBe(FtpForm.NONE);
      expect(announcement.offset + announcement.lengthBytes).toBeLessThanOrEqual(stop - skip);
      expect(announcement.port).toBeGreaterThan(0);
      expect(announcement.port).toBeLessThan(65_536);
      const told = Buffer.from(bytes.subarray(skip))
        .toString('latin1')
        .substr(announcement.offset, announcement.lengthBytes);
      if (announcement.form === FtpForm.EXTENDED_PASSIVE) {
        expect(announcement.write(announcement.address, announcement.port, false)).toContain(String(announcement.port));
      } else expect(told).toMatch(/^[!-~]+$/);
    }),
    { numRuns: 500 },
  );
});

test('the connection that has announced another is no other one, though the record is used again and the ids agree in the bits that are kept', () => {
  const other = (zone: number, helper?: 'tftp') => {
    const lab = new Lab(8);
    const [client, server] = [end('10.0.0.1', 3000), end('192.0.2.9', 69)];
    const data = end('192.0.2.9', 5555);
    const request = { commit: true, zone: 3 };
    lab.send(udp(client, server, '\0\x01f\0'), { ...request, helper: 'tftp' });
    lab.send(udp(data, client, 'data'), request);
    expect(lab.table.parentOf(2)).toBe(1);
    lab.table.remove(1, Removal.FLUSHED);
    expect(lab.table.parentOf(2)).toBe(0);
    // A thousand others have come and gone.
    lab.memory.control[ControlWord.LAST_ID] = 1024;
    lab.send(udp(end('10.9.9.9', 1), end('10.8.8.8', 2)), {
      commit: true,
      zone,
      ...(helper === undefined ? {} : { helper }),
    });
    expect(lab.table.idOf(1)).toBe(1025);
    const { tracked } = lab.send(udp(client, data, 'ack'), request);
    return [lab.table.parentOf(2), tracked.original[1] >>> 0];
  };
  const own = 0xc000_0209;
  expect(other(3)).toEqual([0, own]);
  expect(other(4, 'tftp')).toEqual([0, own]);
});

test('a helper that does not fit the protocol is none', () => {
  const lab = new Lab();
  lab.send(udp(end(c4, 1), end(s4, 2)), new ConnectionAction({ commit: true, helper: 'ftp' }));
  expect(lab.send(udp(end(c4, 1), end(s4, 2), 'PORT 10,0,0,1,4,5\r\n')).state).toBe('new|trk');
  expect(lab.drain().size).toBe(0);
});
