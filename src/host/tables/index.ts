/** tables/: routes, neighbours, interfaces and addresses of the host, as one asks about packets of the host's own. */
export type { LinuxTables, TablesReport } from './linux-tables.ts';
export { type HostTablesOptions, openHostTables } from './open.ts';
