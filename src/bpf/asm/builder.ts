/**
 * The builder: programs that read from top to bottom. Constants of any size, packet bounds, map look-ups, calls with arguments and functions,
 * over control flow and assembler; each says which registers it destroys.
 * Neighbours: asm/control-flow.ts has if, switch and loops, program/load.ts takes what was built.
 */
import { AssemblyError } from '../errors.ts';
import { HELPERS, type HelperName } from '../uapi/helpers.ts';
import type { Operand } from './arithmetic.ts';
import { type Body, ControlFlow } from './control-flow.ts';
import { type Address, Label, type MapReference, R0, R1, R2, R3, R4, R5, Register, type Width } from './operands.ts';

/** An argument of a helper: a register, a constant, an address (its value is computed), or a map. */
export type Argument = Operand | bigint | Address | MapReference;

/** A function of the program, to be called or handed to a helper. */
export type FunctionRef = Label;

const parameters = [R1, R2, R3, R4, R5] as const;

/**
 * Builds a program. Make one, write the code, hand it to `loadProgram`.
 * @example
 * ```ts
 * const b = new ProgramBuilder('drop_all');
 * b.return(XDP.DROP);
 * const program = loadProgram({ type: 'xdp', code: b });
 * ```
 */
export class ProgramBuilder extends ControlFlow {
  readonly #pending: { name: string; label: Label; body: Body }[] = [];

  /** `dst = value`, of any size: one slot where 32 signed bits hold it, else two. */
  set(dst: Register, value: number | bigint): void {
    if (typeof value === 'number' && !Number.isSafeInteger(value))
      throw new AssemblyError(`${value} is no whole number`);
    const wide = BigInt(value);
    if (wide >= -0x80000000n && wide <= 0x7fffffffn) this.mov(dst, Number(wide));
    else this.load64(dst, wide);
  }

  /** `dst = address`: the address itself, not what is there. */
  address(dst: Register, address: Address): void {
    if (dst !== address.base) this.mov(dst, address.base);
    if (address.offset !== 0) this.add(dst, address.offset);
  }

  /** Return a value. Uses R0. */
  return(value: Operand): void {
    this.construct(() => {
      if (value !== R0) this.mov(R0, value);
      this.exit();
    });
  }

  // Packets.

  /**
   * Load the start and the end of an XDP packet out of its context.
   * @param context holds struct xdp_md; may be the same as `end`
   */
  packetOfXdp(context: Register, data: Register, end: Register): void {
    this.#packet(context, data, 0, end, 4);
  }

  /**
   * Load the start and the end of a TC packet's linear part out of its context.
   * @param context holds struct __sk_buff; may be the same as `end`
   */
  packetOfTc(context: Register, data: Register, end: Register): void {
    this.#packet(context, data, 76, end, 80);
  }

  #packet(context: Register, data: Register, dataOffset: number, end: Register, endOffset: number): void {
    if (data === context || data === end) throw new AssemblyError('data needs a register of its own');
    this.construct(() => {
      this.load(data, 'u32', { base: context, offset: dataOffset });
      this.load(end, 'u32', { base: context, offset: endOffset });
    });
  }

  /**
   * Make sure that the packet has bytes, so that the verifier lets them be read: `data + lengthBytes <= end`.
   * @param scratch is destroyed
   * @param tooShort code for packets that have not, or the label to go to
   */
  needBytes(data: Register, end: Register, lengthBytes: Operand, scratch: Register, tooShort: Body | Label): void {
    this.construct(() => {
      this.mov(scratch, data);
      this.add(scratch, lengthBytes);
      if (tooShort instanceof Label) this.jumpIf(scratch, '>', end, tooShort);
      else this.if(scratch, '>', end, tooShort);
    });
  }

  /** Load a number that is in network order. The 16-bit form clears the bits above. */
  loadNetwork(dst: Register, width: Extract<Width, 'u16' | 'u32' | 'u64'>, address: Address): void {
    this.construct(() => {
      this.load(dst, width, address);
      this.toBigEndian(dst, width === 'u16' ? 16 : width === 'u32' ? 32 : 64);
    });
  }

  // Calls.

  /**
   * Call a helper with its arguments: they are put into R1 to R5 in turn. R0 holds the result; R1 to R5 are lost.
   * @throws AssemblyError when an argument lies in a register that an earlier argument has taken
   */
  call(helper: HelperName, ...args: Argument[]): void {
    this.construct(() => {
      this.#arguments(args);
      this.callHelper(HELPERS[helper]);
    });
  }

  /** Call a function of this program with arguments in the same way. */
  callLocal(target: FunctionRef, ...args: Argument[]): void {
    this.construct(() => {
      this.#arguments(args);
      this.callFunction(target);
    });
  }

  #arguments(args: readonly Argument[]): void {
    args.forEach((argument, index) => {
      const parameter = parameters[index];
      if (parameter === undefined) throw new AssemblyError(`a call takes at most 5 arguments, not ${args.length}`);
      const from = registerUsed(argument);
      if (from !== undefined && from !== parameter && parameters.slice(0, index).includes(from as typeof R1)) {
        throw new AssemblyError(
          `argument ${index + 1} lies in ${from}, which argument ${from.index} has taken by then`,
        );
      }
      this.#argument(parameter, argument);
    });
  }

  #argument(parameter: Register, argument: Argument): void {
    if (typeof argument === 'number' || typeof argument === 'bigint') this.set(parameter, argument);
    else if (argument instanceof Register) {
      if (argument !== parameter) this.mov(parameter, argument);
    } else if ('base' in argument) this.address(parameter, argument);
    else this.loadMap(parameter, argument);
  }

  /**
   * Look a key up in a map.
   * @param key where the key is; usually a stack slot
   * @param found code that has the address of the value in R0, known not to be null
   * @param missing code for a key that is not there
   */
  lookup(map: MapReference, key: Address, found: Body, missing?: Body): void {
    this.construct(() => {
      this.call('map_lookup_elem', map, key);
      this.if(R0, '!=', 0, found, missing);
    });
  }

  /**
   * Write a function of this program. Its code is put behind the rest; R1 to R5 are its parameters, R0 its result, and it
   * has a stack frame of its own.
   */
  function(name: string, body: Body): FunctionRef {
    const label = this.label(name);
    this.#pending.push({ name, label, body });
    return label;
  }

  /** Write the functions that are due, then check that all is whole. Called by the loader. */
  override checkComplete(): void {
    for (let next = this.#pending.shift(); next !== undefined; next = this.#pending.shift()) {
      this.newFrame();
      this.startFunction(next.name, next.label);
      next.body();
    }
    super.checkComplete();
  }
}

function registerUsed(argument: Argument): Register | undefined {
  if (typeof argument === 'number' || typeof argument === 'bigint') return undefined;
  if (argument instanceof Register) return argument;
  return 'base' in argument ? argument.base : undefined;
}
