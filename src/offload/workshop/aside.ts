/**
 * A workshop on another thread. Orders go there by a message port, and answers are taken off it when somebody looks for them: the thread that orders
 * may never return to Node's own event loop. Neighbours: work.ts is the other end, thread.ts runs it.
 */
import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import type { MapReference } from '../../bpf/index.ts';
import { closeDescriptor, duplicate } from '../../host/sys/index.ts';
import { OffloadMaps } from '../layout/maps.ts';
import type { TableShape, TableSizes } from '../layout/sizes.ts';
import { LoadedProgram } from '../program/load.ts';
import { type AnswerData, closeAll, type Descriptors, type DraftData, type OrderData } from './work.ts';
import { atOnce, type Job, type Made, type ProgramDraft, planOf, type WorkOrder, type Workshop } from './workshop.ts';

type Answer = AnswerData | { readonly error: string };
/** What the other thread says: first that it is at work. */
type Said = AnswerData | 'ready';

export class WorkshopAside implements Workshop {
  readonly #port: MessagePort;
  /** Orders that are not answered, by number. */
  readonly #jobs = new Map<number, AsideJob>();
  #lastId = 0;
  /** The thread begins, and what is ordered would wait until it is there; it is at work; or it has ended. */
  #thread: 'begins' | 'at work' | 'gone' = 'begins';
  #isClosed = false;

  /** @param port whose other end a thread serves */
  constructor(port: MessagePort) {
    this.#port = port;
  }

  begin(order: WorkOrder): Job {
    // Code cannot be handed over.
    const hasCode = order.drafts.some(({ stages, observe }) => stages !== undefined || observe !== undefined);
    if (this.#thread === 'begins') this.#receive();
    if (this.#thread !== 'at work' || hasCode) return atOnce.begin(order);
    const id = this.#lastId + 1;
    const data = dataOf(id, order);
    const job = new AsideJob(order, () => this.#receive());
    this.#lastId = id;
    this.#jobs.set(id, job);
    this.#port.postMessage(data);
    return job;
  }

  #receive(): void {
    for (let got = receiveMessageOnPort(this.#port); got !== undefined; got = receiveMessageOnPort(this.#port)) {
      const answer = got.message as Said;
      if (answer === 'ready') {
        this.#thread = 'at work';
        continue;
      }
      const job = this.#jobs.get(answer.id);
      this.#jobs.delete(answer.id);
      if (job !== undefined) job.answer(answer);
      else if ('programs' in answer) closeAll(answer.own, answer.programs);
    }
  }

  /** The thread has ended: what it was at fails, and everything else is made at once. */
  gone(why: string): void {
    this.#receive();
    this.#thread = 'gone';
    for (const job of this.#jobs.values()) job.answer({ error: why });
    this.#jobs.clear();
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Nothing more is ordered, and the thread ends. What it is at goes with it. */
  close(): void {
    this.#receive();
    this.#isClosed = true;
    this.#port.close();
  }
}

class AsideJob implements Job {
  readonly #order: WorkOrder;
  readonly #look: () => void;
  #answer: Answer | null = null;
  #isAbandoned = false;

  constructor(order: WorkOrder, look: () => void) {
    this.#order = order;
    this.#look = look;
  }

  answer(answer: Answer): void {
    if (!this.#isAbandoned) this.#answer = answer;
    else if ('programs' in answer) closeAll(answer.own, answer.programs);
  }

  take(): Made | null {
    if (this.#answer === null) this.#look();
    const answer = this.#answer;
    this.#answer = null;
    if (answer === null) return null;
    if ('error' in answer) throw new Error(answer.error);
    return madeOf(this.#order, answer);
  }

  abandon(): void {
    this.#isAbandoned = true;
    const answer = this.#answer;
    this.#answer = null;
    if (answer !== null && 'programs' in answer) closeAll(answer.own, answer.programs);
  }
}

function madeOf({ maps: former, sizes, drafts }: WorkOrder, answer: Exclude<AnswerData, { error: string }>): Made {
  const { own, programs } = answer;
  const maps = own === null || sizes === null ? former : OffloadMaps.beside(former, sizes, own);
  return {
    maps,
    programs: programs.map(({ result, copiesRefused }, i) => {
      if ('reason' in result) return { result, copiesRefused };
      const plan = planOf(copiesRefused === null ? drafts[i] : { ...drafts[i], copies: null }, maps);
      return { result: LoadedProgram.of(plan, result), copiesRefused };
    }),
  };
}

/** @throws SystemError when there are no descriptors left; nothing is left over then */
function dataOf(id: number, { maps, sizes, drafts }: WorkOrder): OrderData {
  const made: number[] = [];
  const duplicates = <Name extends string>(of: Descriptors<Name>): Descriptors<Name> => {
    const entries = Object.entries<MapReference>(of).map(([name, map]) => {
      const fd = duplicate(map.fd);
      made.push(fd);
      return [name, { name: map.name, fd }];
    });
    return Object.fromEntries(entries) as Descriptors<Name>;
  };
  const draftOf = ({ hook, secrets, masks, shapes, clock, copies }: ProgramDraft): DraftData => ({
    hook,
    secrets: secrets.words,
    masks,
    shapes,
    clock,
    copies: copies === null ? null : duplicates(copies),
  });
  try {
    return {
      id,
      maps: duplicates(maps.maps),
      shape: shapeOf(maps.sizes),
      newShape: sizes === null ? null : shapeOf(sizes),
      drafts: drafts.map(draftOf),
    };
  } catch (error) {
    for (const fd of made) closeDescriptor(fd);
    throw error;
  }
}

function shapeOf({ entries, keyWords, parameterWords, cpus }: TableSizes): TableShape {
  return { entries, keyWords, parameterWords, cpus };
}
