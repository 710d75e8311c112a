import { expect, test } from 'vitest';
import { createSwitch, type ExtensionFactory } from '../../switch/index.ts';
import type { Extension } from '../config/model.ts';
import { ConfiguredStack } from './configured-stack.ts';
import { newPulse, Pulse } from './pulse.ts';

/** Takes no settings that say `refuse`. */
const picky: ExtensionFactory = {
  descriptor: { name: 'picky', type: 'filtering', version: '1.0.0' },
  parseConfiguration: (settings) => settings,
  create(_handle, settings) {
    if (Object(settings).refuse === true) throw new TypeError('not like this');
    return {};
  },
};

function lab(factory = picky) {
  const sw = createSwitch({ name: 'lab', host: { nowMs: () => 0, log: () => {} } });
  sw.activate().result();
  const builtins = new Map([['picky', factory]]);
  const stack = new ConfiguredStack(sw, builtins, ({ config }) => config, new Pulse(newPulse(), () => {}));
  const add = (change: Partial<Extension>, heldBack: string | null = null) =>
    stack.add({ name: 'picky', module: null, enabled: true, config: {}, ...change }, 0, heldBack)?.result();
  return { sw, stack, add };
}

test('settings under which a module cannot be loaded are not kept', () => {
  const { stack, add } = lab();
  add({ name: 'lost', module: '/nowhere/lost.mjs', config: { round: 1 } }, 'it did not return');
  expect(() => stack.configure('lost', { round: 2 })).toThrow('lost.mjs');
  expect(stack.settings('lost')).toEqual({ round: 1 });
  expect(stack.list()).toMatchObject([{ state: 'crashed', error: 'it did not return' }]);
});

test('one that has crashed stays so when its new settings are refused, and starts with the next that are not', () => {
  const { sw, stack, add } = lab();
  add({ config: { round: 1 } });
  sw.failExtension('picky', new Error('a fault'), 'onIngress');
  expect(stack.list()).toMatchObject([{ state: 'crashed', error: expect.stringContaining('a fault') }]);
  expect(() => stack.configure('picky', { refuse: true })?.result()).toThrow('not like this');
  expect(stack.list()).toMatchObject([{ state: 'crashed', error: expect.stringContaining('a fault') }]);
  expect(stack.settings('picky')).toEqual({ round: 1 });
  stack.configure('picky', { round: 2 })?.result();
  expect(stack.list()).toMatchObject([{ state: 'running', error: null }]);
});

test('one that is held back is so until it has started', () => {
  const { stack, add } = lab();
  add({ config: { refuse: true } }, 'it did not return');
  expect(() => stack.setEnabled('picky', true)?.result()).toThrow('not like this');
  expect(stack.list()).toMatchObject([{ state: 'crashed', error: 'it did not return' }]);
  stack.configure('picky', {})?.result();
  expect(stack.list()).toMatchObject([{ state: 'running', error: null }]);
});

test('one that is disabled is so when it cannot be enabled', () => {
  const { stack, add } = lab();
  add({ enabled: false, config: { refuse: true } });
  expect(() => stack.setEnabled('picky', true)?.result()).toThrow('not like this');
  expect(stack.list()).toMatchObject([{ state: 'disabled', error: null }]);
});

/** Has a list, which the command `put` lengthens; `spoil` makes its configuration none. */
const lister: ExtensionFactory = {
  descriptor: { name: 'picky', type: 'filtering', version: '1.0.0' },
  parseConfiguration: (settings) => settings,
  create(_handle, settings) {
    let list: readonly string[] = Object(settings).list ?? [];
    let isSpoilt = false;
    return {
      command(name, args) {
        if (name === 'put') list = [...list, String(args)];
        if (name === 'spoil') isSpoilt = true;
        if (name === 'refuse') throw new TypeError('no');
        return list.length;
      },
      configuration: () => (isSpoilt ? JSON.parse('[7]') : { list }),
    };
  },
};

test('what a command makes of the configuration is what the extension is given from then on', () => {
  const { sw, stack, add } = lab(lister);
  add({ config: { list: ['a'] } });
  expect(stack.run('picky', 'show', null)).toEqual({ answer: 1, isConfigured: false });
  expect(stack.configOf('picky')).toEqual({ list: ['a'] });
  expect(stack.run('picky', 'put', 'b')).toEqual({ answer: 2, isConfigured: true });
  expect(stack.configOf('picky')).toEqual({ list: ['a', 'b'] });
  expect(() => stack.run('picky', 'refuse', null)).toThrow('no');
  sw.failExtension('picky', new Error('a fault'), 'onIngress');
  stack.setEnabled('picky', true)?.result();
  expect(stack.run('picky', 'show', null)).toEqual({ answer: 2, isConfigured: false });
});

test('a configuration that is no mapping is not taken over', () => {
  const { stack, add } = lab(lister);
  add({ config: { list: ['a'] } });
  expect(() => stack.run('picky', 'spoil', null)).toThrow(/its configuration/);
  expect(stack.configOf('picky')).toEqual({ list: ['a'] });
});
