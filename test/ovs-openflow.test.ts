/**
 * OpenFlow on the daemon with the unmodified ovs-vswitchd: what rules say is what comes out, byte by byte, with flows in the kernel and
 * without. One lab for each way.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { OvsLab, udp, until } from './ovs-lab.ts';
import { hasOpenVSwitch } from './ovs-world.ts';

describe.runIf(hasOpenVSwitch()).each(['off', 'require'] as const)('with offload %s', (offload) => {
  let lab: OvsLab;

  beforeAll(async () => {
    lab = new OvsLab();
    await lab.start(offload, ['a', 'b', 'c', 'd']);
  }, 60_000);
  afterAll(() => lab.close(), 60_000);

  /** Listen on a port of the switch's namespace. @returns what has been heard until now, in hex, a line for each datagram */
  async function collect(port: number): Promise<() => string> {
    const listen = `.bind(${port}, '127.0.0.1', () => console.log('ready'))`;
    const collector = lab.world.spawn('ip', [
      ...['netns', 'exec', lab.world.middle, process.execPath, '-e'],
      `require('dgram').createSocket('udp4').on('message', (m) => console.log(m.toString('hex')))${listen}`,
    ]);
    let heard = '';
    collector.stdout?.on('data', (text) => {
      heard += text;
    });
    await until('the collector listens', () => heard.includes('ready'));
    return () => heard;
  }

  /**
   * Send a frame three times, so that flows are hit wherever they run.
   * @param count how many should arrive in all
   */
  async function thrice(from: string, frame: Buffer, count = 3): Promise<Record<string, string[]>> {
    for (let i = 0; i < 3; i += 1) {
      await lab.host(from).send(frame);
      await new Promise((resume) => setTimeout(resume, 30));
    }
    return lab.told(count);
  }

  test('rules of several tables with resubmit and registers decide', async () => {
    lab.rules(
      'table=0,in_port=a,udp,tp_dst=2000,actions=load:0x7->NXM_NX_REG1[],resubmit(,1)',
      'table=0,in_port=a,udp,tp_dst=2001,actions=load:0x9->NXM_NX_REG1[],move:NXM_NX_REG1[0..3]->NXM_NX_REG2[4..7],resubmit(,1)',
      'table=1,reg1=0x7,actions=output:b',
      'table=1,reg1=0x9,reg2=0x90,actions=output:b,output:c',
      'table=1,priority=0,actions=drop',
    );
    expect(await thrice('a', udp({ from: 1, to: 2, text: 'seven' }))).toEqual({ b: ['seven', 'seven', 'seven'] });
    const nine = ['nine', 'nine', 'nine'];
    expect(await thrice('a', udp({ from: 1, to: 2, destinationPort: 2001, text: 'nine' }), 6)).toEqual({
      b: nine,
      c: nine,
    });
    expect(await thrice('b', udp({ from: 2, to: 1 }), 0)).toEqual({});
  });

  test('fields are set with right checksums, whole and in part, and the time to live decreases', async () => {
    lab.rules(
      'in_port=a,udp,tp_dst=2000,actions=mod_dl_dst:02:00:00:00:00:03,mod_nw_dst:10.0.0.3,mod_tp_dst:3000,dec_ttl,output:c',
      'in_port=a,udp,tp_dst=2001,actions=set_field:0.0.1.0/0.0.255.0->ip_dst,output:b',
    );
    await lab
      .host('a')
      .send(udp({ from: 1, to: 2 }), udp({ from: 1, to: 2 }), udp({ from: 1, to: 2, destinationPort: 2001 }));
    await new Promise((resume) => setTimeout(resume, 200));
    await lab.host('a').send(udp({ from: 1, to: 2 }), udp({ from: 1, to: 2, destinationPort: 2001 }));
    const { b, c } = await lab.arrived(5);
    const wanted = udp({ from: 1, to: 3, destinationPort: 3000, ttl: 63 });
    expect(c.map((frame) => frame.toString('hex'))).toEqual([wanted, wanted, wanted].map((one) => one.toString('hex')));
    expect(b).toHaveLength(2);
    for (const frame of b) expect([...frame.subarray(30, 34)]).toEqual([10, 0, 1, 2]);
    expect(new Set(b.map((frame) => frame.toString('hex'))).size).toBe(1);
  });

  test('VLAN tags are pushed and popped by rules', async () => {
    lab.rules(
      'in_port=a,vlan_tci=0,actions=push_vlan:0x8100,set_field:4103->vlan_vid,output:b',
      'in_port=b,dl_vlan=7,actions=pop_vlan,output:a',
    );
    expect(await thrice('a', udp({ from: 1, to: 2, text: 'out' }))).toEqual({ b: ['7:out', '7:out', '7:out'] });
    expect(await thrice('b', udp({ from: 2, to: 1, vlan: 7, text: 'back' }))).toEqual({ a: ['back', 'back', 'back'] });
  });

  test('tagged packets have a flow where no rule looks at the tag', async () => {
    lab.rules('in_port=a,actions=output:b');
    const tagged = udp({ from: 1, to: 2, vlan: 10, text: 'one' });
    const priority = udp({ from: 1, to: 2, vlan: 0xa000, text: 'priority' });
    const twice = Buffer.concat([tagged.subarray(0, 12), Buffer.from([0x88, 0xa8, 0, 9]), tagged.subarray(12)]);
    const frames = [tagged, priority, twice];
    const flows = () => lab.world.ok('ovs', 'exec', '--', 'ovs-dpctl', 'dump-flows');
    await lab.host('a').send(...frames);
    // What openvswitch.ko makes of a mask that leaves the tag open.
    for (const match of ['vlan(vid=10/0xa),encap(eth_type(0x0800)', 'vlan(pcp=5/0x5)', 'eth_type(0x88a8),vlan(']) {
      await until(`there is a flow with ${match}`, () => flows().includes(match));
    }
    expect((await lab.arrived(3)).b).toHaveLength(3);
    const missed = () => /missed:(\d+)/.exec(lab.world.ok('ovs', 'dpctl', 'show'))?.[1];
    const before = missed();
    for (let i = 0; i < 10; i += 1) await lab.host('a').send(...frames);
    expect((await lab.arrived(30)).b).toHaveLength(30);
    expect(missed()).toBe(before);
  });

  test('an NSH header is put before frames, and taken away again', async () => {
    lab.rules(
      'in_port=a,actions=encap(nsh(md_type=1)),set_field:0x1234->nsh_spi,set_field:0x11->nsh_c1,encap(ethernet),set_field:02:00:00:00:00:02->eth_dst,output:b',
      'in_port=b,eth_type=0x894f,nsh_spi=0x1234,actions=decap(),decap(),output:a',
      'in_port=c,actions=encap(nsh(md_type=2,tlv(0x1000,10,0x12345678))),encap(ethernet),set_field:02:00:00:00:00:02->eth_dst,output:b',
    );
    const inner = udp({ from: 1, to: 2, text: 'chained' });
    await lab.host('a').send(inner);
    const [first] = (await lab.arrived(1)).b;
    expect(first.toString('hex')).toBe(
      `020000000002000000000000894f0fc60103001234ff00000011${'00'.repeat(12)}${inner.toString('hex')}`,
    );
    await until('the flow is there', () => lab.world.ok('ovs', 'dpctl', 'dump-flows').includes('push_nsh(flags=0,'));
    await lab.host('a').send(inner);
    expect((await lab.arrived(1)).b[0].equals(first)).toBe(true);
    await lab.host('b').send(first);
    expect((await lab.arrived(1)).a[0].toString('hex')).toBe(inner.toString('hex'));
    await lab.host('c').send(inner);
    const [second] = (await lab.arrived(1)).b;
    expect(second.toString('hex')).toContain('894f0fc40203000000ff10000a0412345678');
  });

  test('a learn action makes the rule for the way back', async () => {
    lab.rules(
      'table=0,in_port=a,actions=learn(table=1,priority=5,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[]),output:d',
      'table=0,in_port=d,actions=resubmit(,1)',
      'table=1,priority=0,actions=output:c',
    );
    expect(await thrice('d', udp({ from: 4, to: 1, text: 'unknown' }))).toEqual({
      c: ['unknown', 'unknown', 'unknown'],
    });
    await thrice('a', udp({ from: 1, to: 4, text: 'here I am' }));
    await until('the learned rule is in force', async () => {
      await lab.host('d').send(udp({ from: 4, to: 1, text: 'known' }));
      return (await lab.told()).a !== undefined;
    });
    expect(await thrice('d', udp({ from: 4, to: 1, text: 'known' }))).toEqual({ a: ['known', 'known', 'known'] });
  });

  test('a select group spreads connections, each stays where it is', async () => {
    lab.ofctl(
      'add-group',
      'br0',
      'group_id=1,type=select,selection_method=hash,fields(udp_src),bucket=output:b,bucket=output:c',
    );
    lab.rules('in_port=a,udp,actions=group:1');
    for (let round = 0; round < 2; round += 1) {
      for (let port = 0; port < 40; port += 1) {
        await lab.host('a').send(udp({ from: 1, to: 2, sourcePort: 5000 + port, text: `p${port}` }));
      }
      await new Promise((resume) => setTimeout(resume, 100));
    }
    const { b = [], c = [] } = await lab.told(80);
    expect(b.length + c.length).toBe(80);
    expect(Math.min(b.length, c.length)).toBeGreaterThan(8);
    expect(b.filter((text) => c.includes(text))).toEqual([]);
    lab.rules();
    lab.ofctl('del-groups', 'br0');
  });

  test('a fast failover group follows the link, there and back', async () => {
    lab.ofctl('add-group', 'br0', 'group_id=2,type=ff,bucket=watch_port:b,output:b,bucket=watch_port:c,output:c');
    lab.rules('in_port=a,udp,actions=group:2');
    expect(await thrice('a', udp({ from: 1, to: 2, text: 'first' }))).toEqual({ b: ['first', 'first', 'first'] });
    lab.inside('ip', 'link', 'set', 'dev', 'b', 'down');
    await until('the other bucket is used', async () => {
      await lab.host('a').send(udp({ from: 1, to: 2, text: 'second' }));
      return (await lab.told()).c !== undefined;
    });
    lab.inside('ip', 'link', 'set', 'dev', 'b', 'up');
    await until('the first bucket is used again', async () => {
      await lab.host('a').send(udp({ from: 1, to: 2, text: 'third' }));
      return (await lab.told()).b !== undefined;
    });
    lab.rules();
    lab.ofctl('del-groups', 'br0');
  });

  test('a bundle changes all or nothing', async () => {
    lab.rules('in_port=a,actions=output:b');
    const bad = lab.world.file('bad', 'add in_port=a,actions=output:c\nadd in_port=d,actions=group:77\n');
    expect(lab.tryOfctl('--bundle', 'add-flows', 'br0', bad)).not.toBe(0);
    expect(await thrice('a', udp({ from: 1, to: 2, text: 'as before' }))).toEqual({
      b: ['as before', 'as before', 'as before'],
    });
    const good = lab.world.file(
      'good',
      'delete in_port=a\nadd in_port=a,actions=output:c\nadd in_port=d,actions=output:b\n',
    );
    lab.ofctl('--bundle', 'add-flows', 'br0', good);
    await until('the bundle is in force', async () => {
      await lab.host('a').send(udp({ from: 1, to: 2, text: 'after' }));
      return (await lab.told()).c !== undefined;
    });
    expect(await thrice('d', udp({ from: 4, to: 2, text: 'also' }))).toEqual({ b: ['also', 'also', 'also'] });
  });

  test('access and trunk ports: tags come, go and keep hosts apart', async () => {
    lab.rules('actions=NORMAL');
    lab.vsctl(
      'set',
      'port',
      'a',
      'tag=10',
      '--',
      'set',
      'port',
      'b',
      'tag=10',
      '--',
      'set',
      'port',
      'c',
      'tag=20',
      '--',
      'set',
      'port',
      'd',
      'trunks=10',
    );
    await lab.host('b').send(udp({ from: 2, to: 9, text: 'I am b' }));
    expect(await lab.told(2)).toEqual({ a: ['I am b'], d: ['10:I am b'] });
    await lab.host('d').send(udp({ from: 4, to: 9, vlan: 10, text: 'I am d' }));
    expect(await lab.told(2)).toEqual({ a: ['I am d'], b: ['I am d'] });
    expect(await thrice('a', udp({ from: 1, to: 2, text: 'to b' }))).toEqual({ b: ['to b', 'to b', 'to b'] });
    expect(await thrice('a', udp({ from: 1, to: 4, text: 'to d' }))).toEqual({ d: ['10:to d', '10:to d', '10:to d'] });
    expect(await thrice('d', udp({ from: 4, to: 2, vlan: 10, text: 'up' }))).toEqual({ b: ['up', 'up', 'up'] });
    expect(await thrice('d', udp({ from: 4, to: 2, vlan: 20, text: 'not mine' }), 0)).toEqual({});
    for (const port of ['a', 'b', 'c']) lab.vsctl('clear', 'port', port, 'tag');
    lab.vsctl('clear', 'port', 'd', 'trunks');
  });

  test('a mirror copies what a port sends and receives', async () => {
    lab.rules('actions=NORMAL');
    lab.vsctl(
      ...['--', '--id=@p', 'get', 'port', 'a', '--', '--id=@o', 'get', 'port', 'd'],
      ...['--', '--id=@m', 'create', 'mirror', 'name=m', 'select-dst-port=@p', 'select-src-port=@p', 'output-port=@o'],
      ...['--', 'set', 'bridge', 'br0', 'mirrors=@m'],
    );
    await lab.host('b').send(udp({ from: 2, to: 9, text: 'I am b' }));
    await lab.told();
    // Once to learn from what flows have counted, once for the flows that follow from it.
    lab.settle();
    lab.settle();
    expect(await thrice('a', udp({ from: 1, to: 2, text: 'seen' }), 6)).toEqual({
      b: ['seen', 'seen', 'seen'],
      d: ['seen', 'seen', 'seen'],
    });
    lab.settle();
    lab.settle();
    expect(await thrice('b', udp({ from: 2, to: 1, text: 'back' }), 6)).toEqual({
      a: ['back', 'back', 'back'],
      d: ['back', 'back', 'back'],
    });
    lab.vsctl('clear', 'bridge', 'br0', 'mirrors');
  });

  test('a bond without LACP uses one link, and the other when that goes down', async () => {
    lab.rules('actions=NORMAL');
    lab.vsctl('del-port', 'c', '--', 'del-port', 'd');
    lab.vsctl('add-bond', 'br0', 'bond0', 'c', 'd', 'bond_mode=active-backup', 'lacp=off');
    await until('a link of the bond is active', () =>
      /active-backup primary|enabled/.test(lab.appctl('bond/show', 'bond0')),
    );
    await lab.told();
    await thrice('a', udp({ from: 1, to: 7, text: 'one way' }));
    const active = /active member mac: .*\((\w)\)/.exec(lab.appctl('bond/show', 'bond0'))?.[1] ?? '';
    expect(['c', 'd']).toContain(active);
    const other = active === 'c' ? 'd' : 'c';
    const first = await thrice('a', udp({ from: 1, to: 7, text: 'again' }), 6);
    expect(first[active]).toEqual(['again', 'again', 'again']);
    expect(first[other]).toBeUndefined();
    lab.inside('ip', 'link', 'set', 'dev', active, 'down');
    await until('the other link carries', async () => {
      await lab.host('a').send(udp({ from: 1, to: 7, text: 'over' }));
      return (await lab.told())[other] !== undefined;
    });
    lab.inside('ip', 'link', 'set', 'dev', active, 'up');
    lab.vsctl('del-port', 'bond0', '--', 'add-port', 'br0', 'c', '--', 'add-port', 'br0', 'd');
  });

  test('sFlow samples reach their collector with the packets in them', async () => {
    lab.rules('actions=NORMAL');
    const heard = await collect(6343);
    lab.vsctl(
      ...[
        '--',
        '--id=@s',
        'create',
        'sflow',
        'agent=lo',
        'target="127.0.0.1:6343"',
        'header=128',
        'sampling=1',
        'polling=0',
      ],
      ...['--', 'set', 'bridge', 'br0', 'sflow=@s'],
    );
    const sample = Buffer.from('sampled me').toString('hex');
    await until('a sample has come', async () => {
      await lab.host('a').send(udp({ from: 1, to: 2, text: 'sampled me' }));
      await new Promise((resume) => setTimeout(resume, 100));
      return heard().includes(sample);
    });
    expect((await lab.told()).b?.length).toBeGreaterThan(0);
    lab.vsctl('clear', 'bridge', 'br0', 'sflow');
  });

  test('IPFIX reports what came in and what went out to its collector', async () => {
    lab.rules('actions=NORMAL');
    const heard = await collect(4739);
    const settings = ['targets="127.0.0.1:4739"', 'sampling=1', 'obs_domain_id=77', 'cache_max_flows=0'];
    const record = ['--', '--id=@i', 'create', 'ipfix', ...settings, 'other_config:enable-output-sampling=true'];
    lab.vsctl(...record, '--', 'set', 'bridge', 'br0', 'ipfix=@i');
    // Flows from before have no samples in them.
    lab.settle();
    // Version 10, the observation domain, and somewhere in the records the addresses.
    const message = /000a[0-9a-f]{20}0000004d[0-9a-f]*0a0000010a000002/;
    await until('a record has come', async () => {
      await lab.host('a').send(udp({ from: 1, to: 2, text: 'reported' }));
      await new Promise((resume) => setTimeout(resume, 100));
      return message.test(heard());
    });
    const { b = [] } = await lab.told();
    expect(new Set(b)).toEqual(new Set(['reported']));
    const sampled = () => Number(/sampled pkts=(\d+)/.exec(lab.ofctl('dump-ipfix-bridge', 'br0'))?.[1]);
    await until('every packet is sampled', () => sampled() >= b.length);
    lab.vsctl('clear', 'bridge', 'br0', 'ipfix');
  });

  test('rules are exchanged under traffic, and every packet goes one way or the other, once', async () => {
    lab.rules('in_port=a,udp,actions=output:b');
    let stop = false;
    const changes = (async () => {
      let count = 0;
      while (!stop) {
        lab.ofctl('mod-flows', 'br0', `in_port=a,udp,actions=output:${count % 2 === 0 ? 'c' : 'b'}`);
        count += 1;
        await new Promise((resume) => setTimeout(resume, 1));
      }
      return count;
    })();
    const sent: string[] = [];
    for (let i = 0; i < 1500; i += 10) {
      const frames = Array.from({ length: 10 }, (_, n) => `n${i + n}`);
      sent.push(...frames);
      await lab.host('a').send(...frames.map((text) => udp({ from: 1, to: 2, text })));
    }
    stop = true;
    expect(await changes).toBeGreaterThan(10);
    const { b = [], c = [], d = [] } = await lab.told(sent.length);
    expect(d).toEqual([]);
    expect([...b, ...c].sort()).toEqual([...sent].sort());
  });

  test('ofproto/trace, ovs-dpctl and ovs-appctl agree with each other, and statistics add up', async () => {
    // A rule that only gets other actions keeps its count.
    lab.rules();
    lab.rules('in_port=a,udp,actions=output:b,output:c', 'in_port=b,udp,actions=drop');
    for (let i = 0; i < 10; i += 1) {
      await lab.host('a').send(udp({ from: 1, to: 2 }));
      await new Promise((resume) => setTimeout(resume, 10));
    }
    expect(Object.keys(await lab.told(20)).sort()).toEqual(['b', 'c']);
    const flow =
      'in_port=a,udp,dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02,nw_src=10.0.0.1,nw_dst=10.0.0.2,nw_ttl=64';
    const traced = /Datapath actions: (.*)/.exec(lab.appctl('ofproto/trace', 'br0', flow))?.[1];
    const stable = (text: string) =>
      text
        .split('\n')
        .filter((line) => line.includes('eth_type(0x0800)'))
        .map((line) => line.replaceAll(/ (packets|bytes|used):[^,]+,/g, ''))
        .sort();
    const dumped = lab.world.ok('ovs', 'exec', '--', 'ovs-dpctl', 'dump-flows');
    expect(stable(dumped)).toEqual(stable(lab.appctl('dpctl/dump-flows')));
    expect(stable(dumped).some((line) => line.endsWith(`actions:${traced}`))).toBe(true);
    await until('all packets are counted', () => /n_packets=10,/.test(lab.ofctl('dump-flows', 'br0', 'in_port=a')));
  });

  test('ovs-vswitchd says nothing that it would not say of openvswitch.ko', () => {
    const log = lab.inside('cat', `${lab.world.folder}/ovs-vswitchd.log`);
    // Of this machine, of links that the scenarios take down, of the bundle that is to fail, of samples, and of the frame with a VLAN that its port must not send.
    const expected =
      /netdev_max_backlog|ethtool|linux-sock|reconnect|timeval|poll_loop|tc_|Dropped \d+ log|bond|ofp_util|error response|connmgr|sflow|dropping VLAN 20 packet|ofproto_dpif_rid/i;
    const warnings = log.split('\n').filter((line) => /\|(WARN|ERR|EMER)\|/.test(line) && !expected.test(line));
    expect(warnings).toEqual([]);
  });
});
