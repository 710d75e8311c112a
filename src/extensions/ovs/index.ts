/** extensions/ovs: the datapath that Open vSwitch's own programs drive. The only door of this room. */
export type { Connection, DeviceLosses, PseudoDeviceTransport } from './device/connection.ts';
export type { OVS_COMMANDS, ShownFlow } from './dpctl.ts';
export { Errno as OvsErrno, OvsError } from './errors.ts';
export type { DeviceKind, OvsDevice, OvsHost } from './host.ts';
export { ovsExtension } from './mount.ts';
export type { OvsSurroundings, OvsSwitchPort } from './mount-host.ts';
export { DEFAULT_OVS_SOCKET } from './mount-settings.ts';
export { OvsServer } from './netlink-server.ts';
export type { Buffers as OvsBuffers } from './plain.ts';
export type { OvsStatus, ShownDatapath, ShownPort } from './status.ts';
