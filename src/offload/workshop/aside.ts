/**
 * A workshop on another thread. Orders go there by a message port, and answers are taken off it when somebody looks for them: the thread that orders
 * may never return to Node's own event loop. Neighbours: work.ts is the other end, thread.ts runs it.
 */
import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import type { MapReference } from '../../bpf/index.ts';
import { closeDescriptor, duplicate } from '../../host/sys/index.ts';
import type { ConnectionReferences } from '../connections/maps.ts';
import { OffloadMaps } from '../layout/maps.ts';
import type { TableShape, TableSizes } from '../layout/sizes.ts';
import { LoadedProgram } from '../program/load.ts';
import { type AnswerData, closeAll, type Descriptors, type DraftData, type OrderData } from './work.ts';
import { atOnce, type Job, type Made, type ProgramDraft, planOf, type WorkOrder, type Workshop } from './workshop.ts';

type Answer = AnswerData | { readonly error: string };
/** What the other thread says: first that it is at work. */
type Said = AnswerData | 'ready';

/** A thread that has been begun. */
export interface WorkshopThread {
  /** The other end of the port that it serves. A thread that is at work ends when this is closed. */
  readonly port: MessagePort;
  /** End it before it is at work: one that only begins would miss that its port is closed. */
  stop(): void;
}

/** A thread with nothing to do for this long ends, as it takes some 20 MB; with the next order comes another. */
const REST_MS = 5000;

export class WorkshopAside implements Workshop {
  readonly #start: () => WorkshopThread;
  #thread: WorkshopThread | null = null;
  /** Orders that are not answered, by number. */
  readonly #jobs = new Map<number, AsideJob>();
  #lastId = 0;
  /** There is none for now; it begins, and what is ordered would wait until it is there; it is at work; or it has ended by itself. */
  #state: 'none' | 'begins' | 'at work' | 'gone' = 'none';
  #usedMs = 0;

  /** @param start begins a thread */
  constructor(start: () => WorkshopThread) {
    this.#start = start;
  }

  begin(order: WorkOrder): Job {
    // Code cannot be handed over.
    const hasCode = order.drafts.some(({ stages, observe }) => stages !== undefined || observe !== undefined);
    this.#usedMs = performance.now();
    if (this.#state === 'none' && !hasCode) {
      this.#thread = this.#start();
      this.#state = 'begins';
    }
    if (this.#state === 'begins') this.#receive();
    if (this.#state !== 'at work' || this.#thread === null || hasCode) return atOnce.begin(order);
    const id = this.#lastId + 1;
    const data = dataOf(id, order);
    const job = new AsideJob(order, () => this.#receive());
    this.#lastId = id;
    this.#jobs.set(id, job);
    this.#thread.port.postMessage(data);
    return job;
  }

  #receive(): void {
    const port = this.#thread?.port;
    if (port === undefined) return;
    for (let got = receiveMessageOnPort(port); got !== undefined; got = receiveMessageOnPort(port)) {
      const answer = got.message as Said;
      if (answer === 'ready') {
        this.#state = 'at work';
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
    this.#state = 'gone';
    for (const job of this.#jobs.values()) job.answer({ error: why });
    this.#jobs.clear();
  }

  /** Whether the thread at the other end of a port is this one's still. */
  has(port: MessagePort): boolean {
    return this.#thread?.port === port;
  }

  /** To be called now and then: a thread that has had nothing to do for some time ends. */
  rest(): void {
    if (this.#thread === null || this.#state === 'gone' || performance.now() < this.#usedMs + REST_MS) return;
    this.#receive();
    if (this.#state === 'at work' && this.#jobs.size === 0) this.close();
  }

  /** The thread ends, and what it is at goes with it. What is ordered after this gets another one. */
  close(): void {
    this.#receive();
    const thread = this.#thread;
    if (this.#state === 'begins') thread?.stop();
    this.#thread = null;
    if (this.#state !== 'gone') this.#state = 'none';
    thread?.port.close();
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
    programs: programs.map(({ result, copiesRefused, refusesHandingDown }, i) => {
      if ('reason' in result) return { result, copiesRefused, refusesHandingDown };
      const { copies, handsDown, ...draft } = drafts[i];
      const made = {
        ...draft,
        copies: copiesRefused === null ? copies : null,
        handsDown: handsDown === true && !refusesHandingDown,
      };
      return { result: LoadedProgram.of(planOf(made, maps), result), copiesRefused, refusesHandingDown };
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
  const connectionsOf = ({ capacity, control, index, records }: ConnectionReferences) => ({
    ...duplicates({ control, index, records }),
    capacity,
  });
  const draftOf = ({
    hook,
    secrets,
    masks,
    shapes,
    clock,
    handsDown = false,
    copies,
    connections,
  }: ProgramDraft): DraftData => ({
    hook,
    secrets: secrets.words,
    masks,
    shapes,
    clock,
    handsDown,
    copies: copies === null ? null : duplicates(copies),
    connections: connections === undefined ? null : connectionsOf(connections),
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
