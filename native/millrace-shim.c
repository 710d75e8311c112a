/*
 * millrace-shim: preloaded into Open vSwitch's programs, it connects their generic netlink sockets to the Millrace daemon.
 *
 * A generic netlink socket becomes a connection to a Unix SOCK_SEQPACKET socket whose path is in MILLRACE_OVS_SOCKET. Every
 * datagram on it is a frame: a 32-bit kind and a payload.
 *
 *     to the daemon     0 a netlink datagram          2 join a group (u32)          3 leave a group (u32)
 *                       4 who am I                    5 more of the dump (u32 room of the reader)
 *     from the daemon   0 a netlink datagram          1 done (s32 errno, u32 flags: DONE_GOES_ON)
 *                       6 a bundle: other frames, each behind its length (u32) and padded to four bytes
 *                       9 hello (u32 port id, u32 PROTOCOL_VERSION)
 *
 * The daemon says hello to every new connection, and answers each frame of ours with any number of datagrams and one "done".
 * A send returns only after "done": programs rely on replies being readable by then. Datagrams that arrive meanwhile wait in a
 * queue of ours, and later reads take from it first.
 *
 * Dumps come in parts: "done" says that one goes on, and reads ask for the next part. A part is asked for when the one before
 * is read, so that daemon and program work at the same time. To a program EAGAIN means that a dump is over, so a read waits
 * for its part even when it was told not to wait.
 *
 * Of what the daemon does not serve (families below FAMILY_FIRST, names that do not begin with "ovs_") the kernel is asked
 * over a netlink socket of a moment. Routing netlink goes to the kernel, but for one probe: see compat_probe. Netfilter's
 * sockets are the kernel's, but for messages about connections: those go to the daemon over a connection beside the socket, so
 * that a program sees the connections of its datapath and never touches those of the machine.
 *
 * Neighbours: src/extensions/ovs/ is the other end of the connection.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/genetlink.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    FRAME_DATAGRAM = 0, FRAME_DONE = 1, FRAME_JOIN = 2, FRAME_LEAVE = 3, FRAME_WHO = 4, FRAME_MORE = 5,
    FRAME_BUNDLE = 6, FRAME_HELLO = 9
};
#define DONE_GOES_ON 1u
/* Shim and daemon must be of one make. */
#define PROTOCOL_VERSION 3u

/* The daemon's families and groups have numbers from here on: above any of the kernel's. */
#define FAMILY_FIRST 0x7000
/* Longest frame: netlink datagrams are below 64 KiB on both ways, and a batch of requests below 1 MiB. */
#define FRAME_MAX (1 << 20)
/* Descriptors at and above this are not watched over. */
#define FD_MAX 65536
#define IOV_MAX_REQUEST 1024

/* A datagram that waits to be read. */
struct datagram {
    struct datagram *next;
    size_t length;
    char bytes[];
};

enum kind {
    KIND_GENERIC = 1,        /* the descriptor is a connection to the daemon */
    KIND_ROUTE = 2,          /* the kernel's; only the probe is watched for */
    KIND_NETFILTER = 4       /* the kernel's; messages about connections are the daemon's */
};

/* What is known of a dump. */
enum dump { DUMP_NONE, DUMP_WAITS, DUMP_ASKED };

/* What a descriptor stands for; descriptors that dup made share one. */
struct shim_socket {
    int references;
    enum kind kind;
    uint32_t port;           /* netlink port id */
    pthread_mutex_t lock;    /* serialises requests; guards what is below */
    int dead;                /* the daemon has gone */
    enum dump dump;
    uint32_t room;           /* of the largest read so far */
    int side;                /* KIND_NETFILTER: its connection to the daemon, made for the first message, or -1 */
    pid_t side_owner;        /* the process that made it */
    ino_t side_inode;        /* what it was then: programs may close descriptors that they do not know */
    struct datagram *head, **tail;
};

static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static struct shim_socket *table[FD_MAX];

/*
 * The process that the table belongs to. A child of vfork runs in its parent's memory: what it does to descriptors before it
 * calls exec must leave the table alone.
 */
static pid_t table_owner;

/* The next definition of a function: that of the C library. */
#define REAL(name)                                                    \
    static __typeof__(&name) real_##name;                             \
    if (real_##name == NULL) {                                        \
        *(void **) &real_##name = dlsym(RTLD_NEXT, #name);            \
    }

static ssize_t raw_sendmsg(int fd, const struct msghdr *m, int flags)
{
    REAL(sendmsg);
    return real_sendmsg(fd, m, flags);
}

static ssize_t raw_recv(int fd, void *to, size_t length, int flags)
{
    REAL(recv);
    return real_recv(fd, to, length, flags);
}

static int raw_close(int fd)
{
    REAL(close);
    return real_close(fd);
}

static int raw_poll(int fd, short events)
{
    REAL(poll);
    struct pollfd p = { .fd = fd, .events = events };
    return real_poll(&p, 1, -1);
}

/* ---- The table. ---- */

static struct shim_socket *socket_new(uint32_t port, enum kind kind)
{
    struct shim_socket *s = calloc(1, sizeof *s);
    if (s != NULL) {
        s->references = 1;
        s->port = port;
        s->kind = kind;
        s->side = -1;
        s->tail = &s->head;
        pthread_mutex_init(&s->lock, NULL);
    }
    return s;
}

/* Take a reference to what a descriptor stands for; NULL for a descriptor that is none of ours. */
static struct shim_socket *socket_get(int fd)
{
    if (fd < 0 || fd >= FD_MAX || __atomic_load_n(&table[fd], __ATOMIC_ACQUIRE) == NULL || getpid() != table_owner) {
        return NULL;
    }
    pthread_mutex_lock(&table_lock);
    struct shim_socket *s = table[fd];
    if (s != NULL) {
        s->references++;
    }
    pthread_mutex_unlock(&table_lock);
    return s;
}

/* Whether the side connection is still the socket that it was. */
static int side_is_there(const struct shim_socket *s)
{
    struct stat status;
    return s->side >= 0 && fstat(s->side, &status) == 0 && status.st_ino == s->side_inode;
}

/* Give the side connection up; of a child it is a copy of its parent's. */
static void side_drop(struct shim_socket *s)
{
    if (side_is_there(s)) {
        raw_close(s->side);
    }
    s->side = -1;
}

static void socket_put(struct shim_socket *s)
{
    pthread_mutex_lock(&table_lock);
    int left = --s->references;
    pthread_mutex_unlock(&table_lock);
    if (left == 0) {
        while (s->head != NULL) {
            struct datagram *d = s->head;
            s->head = d->next;
            free(d);
        }
        side_drop(s);
        pthread_mutex_destroy(&s->lock);
        free(s);
    }
}

/* Make a descriptor stand for s (whose reference passes to the table), or for nothing. */
static void table_set(int fd, struct shim_socket *s)
{
    if (fd < 0 || fd >= FD_MAX) {
        if (s != NULL) {
            socket_put(s);
        }
        return;
    }
    if (s == NULL && (__atomic_load_n(&table[fd], __ATOMIC_ACQUIRE) == NULL || getpid() != table_owner)) {
        return;
    }
    pthread_mutex_lock(&table_lock);
    struct shim_socket *before = table[fd];
    __atomic_store_n(&table[fd], s, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&table_lock);
    if (before != NULL) {
        socket_put(before);
    }
}

/* As socket_get, but only for sockets of these kinds. */
static struct shim_socket *kind_get(int fd, int kinds)
{
    struct shim_socket *s = socket_get(fd);
    if (s != NULL && !(s->kind & kinds)) {
        socket_put(s);
        return NULL;
    }
    return s;
}

/* As socket_get, but only for connections to the daemon. */
static struct shim_socket *served_get(int fd)
{
    return kind_get(fd, KIND_GENERIC);
}

static int queue_add(struct shim_socket *s, const void *bytes, size_t length)
{
    struct datagram *d = malloc(sizeof *d + length);
    if (d == NULL) {
        return ENOMEM;
    }
    d->next = NULL;
    d->length = length;
    memcpy(d->bytes, bytes, length);
    *s->tail = d;
    s->tail = &d->next;
    return 0;
}

/* ---- fork: the child has one thread, and locks that others held would stay held. ---- */

static void before_fork(void)
{
    pthread_mutex_lock(&table_lock);
}

static void after_fork_parent(void)
{
    pthread_mutex_unlock(&table_lock);
}

static void after_fork_child(void)
{
    table_owner = getpid();
    pthread_mutex_init(&table_lock, NULL);
    for (int fd = 0; fd < FD_MAX; fd++) {
        if (table[fd] != NULL) {
            pthread_mutex_init(&table[fd]->lock, NULL);
            /* What was asked for is the parent's to read. */
            table[fd]->dump = table[fd]->dump == DUMP_ASKED ? DUMP_WAITS : table[fd]->dump;
        }
    }
}

/* ---- A daemon that has gone. ---- */

/* How long a request to a daemon that has gone takes to fail: programs try again and again. */
#define DEAD_PAUSE_MS 50

/*
 * The daemon of a connection has gone. The descriptor becomes one that is never ready: with the hang-up of the connection, poll and
 * epoll would return at once for ever. What is asked of it from now on fails, with a pause.
 */
static void mark_dead(int fd, struct shim_socket *s)
{
    static int quiet = -1;
    if (s->kind != KIND_GENERIC || __atomic_exchange_n(&s->dead, 1, __ATOMIC_ACQ_REL)) {
        return;
    }
    int error = errno;
    pthread_mutex_lock(&table_lock);
    if (quiet < 0) {
        int pair[2];
        if (syscall(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0) {
            quiet = pair[0];    /* the other end stays open, and silent */
        }
    }
    if (quiet >= 0 && fd >= 0 && fd < FD_MAX && table[fd] == s) {
        REAL(fcntl);
        int flags = real_fcntl(fd, F_GETFD);
        syscall(SYS_dup3, quiet, fd, flags > 0 && (flags & FD_CLOEXEC) ? O_CLOEXEC : 0);
    }
    pthread_mutex_unlock(&table_lock);
    errno = error;
}

/* Whether the daemon has gone; then errno is set, after a pause. */
static int is_dead(struct shim_socket *s)
{
    if (!__atomic_load_n(&s->dead, __ATOMIC_ACQUIRE)) {
        return 0;
    }
    REAL(poll);
    real_poll(NULL, 0, DEAD_PAUSE_MS);
    errno = ECONNRESET;
    return 1;
}

/* ---- Frames. ---- */

/* Each thread has a buffer, which goes when the thread ends. */
static pthread_key_t buffer_key;
static pthread_once_t buffer_once = PTHREAD_ONCE_INIT;

static void buffer_key_make(void)
{
    pthread_key_create(&buffer_key, free);
}

static char *frame_buffer(void)
{
    pthread_once(&buffer_once, buffer_key_make);
    char *buffer = pthread_getspecific(buffer_key);
    if (buffer == NULL && (buffer = malloc(FRAME_MAX)) != NULL) {
        pthread_setspecific(buffer_key, buffer);
    }
    return buffer;
}

static int frame_send(int fd, uint32_t kind, const struct iovec *iov, size_t count)
{
    struct iovec parts[IOV_MAX_REQUEST + 1];
    if (count > IOV_MAX_REQUEST) {
        errno = EMSGSIZE;
        return -1;
    }
    parts[0].iov_base = &kind;
    parts[0].iov_len = sizeof kind;
    for (size_t i = 0; i < count; i++) {
        parts[i + 1] = iov[i];
    }
    struct msghdr m = { .msg_iov = parts, .msg_iovlen = count + 1 };
    for (;;) {
        if (raw_sendmsg(fd, &m, MSG_NOSIGNAL) >= 0) {
            return 0;
        }
        if (errno == EAGAIN) {
            raw_poll(fd, POLLOUT);
        } else if (errno != EINTR) {
            return -1;
        }
    }
}

/* Give the messages of a datagram our port id. */
static void readdress(char *bytes, size_t length, uint32_t port)
{
    for (size_t at = 0; at + sizeof(struct nlmsghdr) <= length;) {
        struct nlmsghdr h;
        memcpy(&h, bytes + at, sizeof h);
        h.nlmsg_pid = port;
        memcpy(bytes + at, &h, sizeof h);
        if (h.nlmsg_len < sizeof h) {
            break;
        }
        at += NLMSG_ALIGN(h.nlmsg_len);
    }
}

/* What frames have said besides datagrams. */
struct verdict {
    int done;                /* a "done" was among them */
    int error;               /* its errno, or that of a datagram that could not be queued */
};

/* One frame from the daemon: a datagram is queued, anything else noted. The socket's lock is held. */
static void take_frame(struct shim_socket *s, char *frame, size_t length, struct verdict *verdict)
{
    uint32_t word[3] = { 0, 0, 0 };
    if (length < sizeof word[0]) {
        return;
    }
    memcpy(word, frame, length < sizeof word ? length : sizeof word);
    if (word[0] == FRAME_DATAGRAM) {
        if (s->kind != KIND_GENERIC) {
            readdress(frame + sizeof word[0], length - sizeof word[0], s->port);
        }
        if (queue_add(s, frame + sizeof word[0], length - sizeof word[0]) != 0) {
            verdict->error = ENOBUFS;
        }
    } else if (word[0] == FRAME_HELLO && length == sizeof word) {
        s->port = word[1];
    } else if (word[0] == FRAME_DONE && length == sizeof word) {
        verdict->done = 1;
        verdict->error = word[1] != 0 ? (int) word[1] : verdict->error;
        s->dump = word[2] & DONE_GOES_ON ? DUMP_WAITS : DUMP_NONE;
    }
}

/* What was read from the daemon at once: a frame, or a bundle of them. The socket's lock is held. */
static void take_frames(struct shim_socket *s, char *bytes, size_t length, struct verdict *verdict)
{
    uint32_t kind = 0;
    if (length >= sizeof kind) {
        memcpy(&kind, bytes, sizeof kind);
    }
    if (kind != FRAME_BUNDLE) {
        take_frame(s, bytes, length, verdict);
        return;
    }
    uint32_t part;
    for (size_t at = sizeof kind; length - at >= sizeof part;) {
        memcpy(&part, bytes + at, sizeof part);
        at += sizeof part;
        if (part > length - at) {
            break;
        }
        take_frame(s, bytes + at, part, verdict);
        size_t padded = ((size_t) part + 3) & ~(size_t) 3;
        if (padded > length - at) {
            break;
        }
        at += padded;
    }
}

/*
 * Wait for a "done"; datagrams on the way are queued. The socket's lock is held.
 * Returns 0, or -1 with errno: the daemon's, or ECONNRESET when the daemon is gone.
 */
static int await_done(int fd, struct shim_socket *s)
{
    char *buffer = frame_buffer();
    struct verdict verdict = { 0, 0 };
    if (buffer == NULL) {
        errno = ENOMEM;
        return -1;
    }
    while (!verdict.done) {
        ssize_t n = raw_recv(fd, buffer, FRAME_MAX, 0);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno == EAGAIN) {
            raw_poll(fd, POLLIN);
            continue;
        }
        if (n < (ssize_t) sizeof(uint32_t)) {
            s->dump = DUMP_NONE;
            errno = ECONNRESET;
            return -1;
        }
        take_frames(s, buffer, n, &verdict);
    }
    errno = verdict.error;
    return verdict.error != 0 ? -1 : 0;
}

/* Send a frame and wait for its "done", as await_done says. A part of a dump that was asked for comes before. */
static int frame_exchange(int fd, struct shim_socket *s, uint32_t kind, const struct iovec *iov, size_t count)
{
    if (s->dump == DUMP_ASKED && await_done(fd, s) < 0) {
        return -1;
    }
    return frame_send(fd, kind, iov, count) < 0 ? -1 : await_done(fd, s);
}

/* ---- Dumps. ---- */

/* Ask for the next part of a dump, if there is one, without waiting for it. The socket's lock is held. */
static void ask_more(int fd, struct shim_socket *s)
{
    struct iovec iov = { &s->room, sizeof s->room };
    if (s->dump == DUMP_WAITS && frame_send(fd, FRAME_MORE, &iov, 1) == 0) {
        s->dump = DUMP_ASKED;
    }
}

/* Wait until the queue holds something or no dump goes on. The socket's lock is held. Returns 0, or -1 with errno. */
static int fetch_dump(int fd, struct shim_socket *s)
{
    while (s->head == NULL && s->dump != DUMP_NONE) {
        ask_more(fd, s);
        if (s->dump == DUMP_WAITS || await_done(fd, s) < 0) {
            s->dump = DUMP_NONE;
            return -1;
        }
    }
    return 0;
}

/* ---- What the kernel answers itself. ---- */

/*
 * Whether a datagram is for the kernel: its first message is of a family that is not the daemon's, and not a question for a
 * family whose name begins with "ovs_".
 */
static int for_kernel(const char *bytes, size_t length)
{
    struct nlmsghdr h;
    if (length < sizeof h + GENL_HDRLEN) {
        return 0;
    }
    memcpy(&h, bytes, sizeof h);
    if (h.nlmsg_type >= FAMILY_FIRST || h.nlmsg_type < NLMSG_MIN_TYPE) {
        return 0;
    }
    if (h.nlmsg_type != GENL_ID_CTRL) {
        return 1;
    }
    size_t end = h.nlmsg_len < length ? h.nlmsg_len : length;
    for (size_t at = sizeof h + GENL_HDRLEN; at + sizeof(struct nlattr) <= end;) {
        struct nlattr a;
        memcpy(&a, bytes + at, sizeof a);
        if (a.nla_len < sizeof a || a.nla_len > end - at) {
            return 0;
        }
        if ((a.nla_type & NLA_TYPE_MASK) == CTRL_ATTR_FAMILY_NAME) {
            return a.nla_len < sizeof a + 4 || memcmp(bytes + at + sizeof a, "ovs_", 4) != 0;
        }
        at += NLA_ALIGN(a.nla_len);
    }
    return 1;
}

/* Whether a datagram from the kernel ends what the message with this sequence number began. */
static int ends(const char *bytes, size_t length, uint32_t sequence, int is_dump)
{
    for (size_t at = 0; at + sizeof(struct nlmsghdr) <= length;) {
        struct nlmsghdr h;
        memcpy(&h, bytes + at, sizeof h);
        if (h.nlmsg_len < sizeof h || h.nlmsg_len > length - at) {
            return 1;
        }
        if (h.nlmsg_seq == sequence && (h.nlmsg_type == NLMSG_ERROR || h.nlmsg_type == NLMSG_DONE)) {
            return 1;
        }
        if (h.nlmsg_seq == sequence && !is_dump && !(h.nlmsg_flags & NLM_F_MULTI)) {
            return 1;
        }
        at += NLMSG_ALIGN(h.nlmsg_len);
    }
    return 0;
}

/* Ask the kernel over a socket of a moment; its answers are queued under our own port id. The socket's lock is held. */
static int ask_kernel(struct shim_socket *s, const char *bytes, size_t length)
{
    REAL(socket);
    struct nlmsghdr request;
    memcpy(&request, bytes, sizeof request);
    int fd = real_socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);
    char *buffer = frame_buffer();
    if (fd < 0 || buffer == NULL) {
        return -1;
    }
    int is_dump = (request.nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;
    int wait = (request.nlmsg_flags & NLM_F_ACK) || is_dump;
    struct iovec iov = { (void *) bytes, length };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
    int result = raw_sendmsg(fd, &m, 0) < 0 ? -1 : 0;
    /* Without an acknowledgement the kernel has answered, if at all, before the send returned. */
    while (result == 0) {
        ssize_t n = raw_recv(fd, buffer, FRAME_MAX, wait ? 0 : MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            result = n < 0 && errno != EAGAIN ? -1 : 0;
            break;
        }
        readdress(buffer, n, s->port);
        if (queue_add(s, buffer, n) != 0) {
            errno = ENOBUFS;
            result = -1;
        } else if (wait && ends(buffer, n, request.nlmsg_seq, is_dump)) {
            break;
        }
    }
    int error = errno;
    raw_close(fd);
    errno = error;
    return result;
}

/* ---- Sockets: made, named, ended. ---- */

/* Read the hello of a new connection. Returns the port id, or 0. */
static uint32_t read_hello(int fd)
{
    uint32_t hello[3];
    ssize_t n;
    do {
        n = raw_recv(fd, hello, sizeof hello, 0);
        if (n < 0 && errno == EAGAIN) {
            raw_poll(fd, POLLIN);
            errno = EINTR;
        }
    } while (n < 0 && errno == EINTR);
    if (n < 2 * (ssize_t) sizeof hello[0] || hello[0] != FRAME_HELLO) {
        errno = ECONNRESET;
        return 0;
    }
    if (n != sizeof hello || hello[2] != PROTOCOL_VERSION) {
        errno = EPROTO;
        return 0;
    }
    return hello[1];
}

/* Where the daemon listens. Returns 1, 0 when nothing is said about that, or -1 with errno for a path that cannot be one. */
static int daemon_address(struct sockaddr_un *address)
{
    const char *path = getenv("MILLRACE_OVS_SOCKET");
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    if (path == NULL || *path == '\0') {
        return 0;
    }
    if (strlen(path) >= sizeof address->sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(address->sun_path, path);
    return 1;
}

/*
 * Connect to the daemon. flags are those of socket(2). Returns a descriptor and the port id, or -1 with errno: ECONNREFUSED or
 * ENOENT without a daemon, ECONNRESET when it ended at once, EPROTO when it is not of our make.
 */
static int daemon_connect(const struct sockaddr_un *address, int flags, uint32_t *port)
{
    REAL(socket);
    REAL(connect);
    int fd = real_socket(AF_UNIX, SOCK_SEQPACKET | flags, 0);
    if (fd < 0) {
        return -1;
    }
    /* A batch of requests must fit. */
    int room = FRAME_MAX;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    int connected;
    do {
        connected = real_connect(fd, (const struct sockaddr *) address, sizeof *address);
        if (connected < 0 && errno == EAGAIN) {
            usleep(1000);    /* the daemon's backlog is full */
            errno = EINTR;
        }
    } while (connected < 0 && errno == EINTR);
    *port = connected < 0 ? 0 : read_hello(fd);
    if (*port == 0) {
        int error = errno;
        raw_close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

/* Let a descriptor stand for a new socket. Returns the descriptor, or -1 with errno and the descriptor closed. */
static int watch(int fd, uint32_t port, enum kind kind)
{
    struct shim_socket *s = fd < FD_MAX ? socket_new(port, kind) : NULL;
    if (s == NULL) {
        raw_close(fd);
        errno = fd < FD_MAX ? ENOMEM : EMFILE;
        return -1;
    }
    table_set(fd, s);
    return fd;
}

int socket(int domain, int type, int protocol)
{
    REAL(socket);
    struct sockaddr_un address;
    int kernel_kind = protocol == NETLINK_ROUTE ? KIND_ROUTE : protocol == NETLINK_NETFILTER ? KIND_NETFILTER : 0;
    if (domain != AF_NETLINK || (protocol != NETLINK_GENERIC && kernel_kind == 0) || getpid() != table_owner) {
        return real_socket(domain, type, protocol);
    }
    int known = daemon_address(&address);
    if (known == 0) {
        return real_socket(domain, type, protocol);
    }
    if (known < 0 && kernel_kind == 0) {
        return -1;
    }
    if (kernel_kind != 0) {
        int fd = real_socket(domain, type, protocol);
        return fd < 0 ? fd : watch(fd, 0, kernel_kind);
    }
    uint32_t port = 0;
    int fd = daemon_connect(&address, type & (SOCK_CLOEXEC | SOCK_NONBLOCK), &port);
    return fd < 0 ? fd : watch(fd, port, KIND_GENERIC);
}

int close(int fd)
{
    table_set(fd, NULL);
    return raw_close(fd);
}

int close_range(unsigned int first, unsigned int last, int flags)
{
    REAL(close_range);
    if (real_close_range == NULL) {
        errno = ENOSYS;
        return -1;
    }
    int result = real_close_range(first, last, flags);
    for (unsigned int fd = first; result == 0 && !(flags & CLOSE_RANGE_CLOEXEC) && fd <= last && fd < FD_MAX; fd++) {
        table_set(fd, NULL);
    }
    return result;
}

void closefrom(int first)
{
    close_range(first < 0 ? 0 : first, ~0u, 0);
}

/* Both descriptors stand for the same socket afterwards. */
static int copied(int from, int to)
{
    if (to >= 0 && to != from && getpid() == table_owner) {
        table_set(to, socket_get(from));
    }
    return to;
}

int dup(int fd)
{
    REAL(dup);
    return copied(fd, real_dup(fd));
}

int dup2(int fd, int to)
{
    REAL(dup2);
    return copied(fd, real_dup2(fd, to));
}

int dup3(int fd, int to, int flags)
{
    REAL(dup3);
    return copied(fd, real_dup3(fd, to, flags));
}

/* The third argument is an int, a pointer or nothing; a long holds each. */
static int any_fcntl(const char *name, int fd, int command, long argument)
{
    int (*real)(int, int, ...);
    *(void **) &real = dlsym(RTLD_NEXT, name);
    int result = real(fd, command, argument);
    return command == F_DUPFD || command == F_DUPFD_CLOEXEC ? copied(fd, result) : result;
}

int fcntl(int fd, int command, ...)
{
    va_list arguments;
    va_start(arguments, command);
    long argument = va_arg(arguments, long);
    va_end(arguments);
    return any_fcntl("fcntl", fd, command, argument);
}

int fcntl64(int fd, int command, ...)
{
    va_list arguments;
    va_start(arguments, command);
    long argument = va_arg(arguments, long);
    va_end(arguments);
    return any_fcntl("fcntl64", fd, command, argument);
}

/*
 * Netfilter's groups that tell of connections and expectations: 1 to 6. Nobody hears there of the machine's connections: joining
 * succeeds, and nothing comes.
 */
#define CONNECTION_GROUPS 0x3fu
#define CONNECTION_GROUP_LAST 6u

int bind(int fd, const struct sockaddr *address, socklen_t length)
{
    REAL(bind);
    struct shim_socket *s = kind_get(fd, KIND_GENERIC | KIND_NETFILTER);
    if (s == NULL) {
        return real_bind(fd, address, length);
    }
    enum kind kind = s->kind;
    socket_put(s);
    if (kind == KIND_GENERIC) {
        return 0;
    }
    struct sockaddr_nl own;
    if (length < sizeof own) {
        return real_bind(fd, address, length);
    }
    memcpy(&own, address, sizeof own);
    own.nl_groups &= ~CONNECTION_GROUPS;
    return real_bind(fd, (struct sockaddr *) &own, sizeof own);
}

int connect(int fd, const struct sockaddr *address, socklen_t length)
{
    REAL(connect);
    struct shim_socket *s = served_get(fd);
    if (s == NULL) {
        return real_connect(fd, address, length);
    }
    socket_put(s);
    return 0;
}

/* Fill in a netlink address as far as it fits, and its whole length. */
static void netlink_address(struct sockaddr *to, socklen_t *length, uint32_t port)
{
    struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_pid = port };
    memcpy(to, &address, *length < sizeof address ? *length : sizeof address);
    *length = sizeof address;
}

int getsockname(int fd, struct sockaddr *address, socklen_t *length)
{
    REAL(getsockname);
    struct shim_socket *s = served_get(fd);
    if (s == NULL) {
        return real_getsockname(fd, address, length);
    }
    netlink_address(address, length, s->port);
    socket_put(s);
    return 0;
}

int getpeername(int fd, struct sockaddr *address, socklen_t *length)
{
    REAL(getpeername);
    struct shim_socket *s = served_get(fd);
    if (s == NULL) {
        return real_getpeername(fd, address, length);
    }
    netlink_address(address, length, 0);
    socket_put(s);
    return 0;
}

int setsockopt(int fd, int level, int option, const void *value, socklen_t length)
{
    REAL(setsockopt);
    struct shim_socket *s = level == SOL_NETLINK ? kind_get(fd, KIND_GENERIC | KIND_NETFILTER) : NULL;
    if (s == NULL) {
        return real_setsockopt(fd, level, option, value, length);
    }
    int result = 0;
    if (s->kind == KIND_NETFILTER) {
        uint32_t group = 0;
        memcpy(&group, value, length < sizeof group ? length : sizeof group);
        if (option != NETLINK_ADD_MEMBERSHIP || group == 0 || group > CONNECTION_GROUP_LAST) {
            result = real_setsockopt(fd, level, option, value, length);
        }
    } else if (option == NETLINK_ADD_MEMBERSHIP || option == NETLINK_DROP_MEMBERSHIP) {
        uint32_t group = 0;
        memcpy(&group, value, length < sizeof group ? length : sizeof group);
        if (group < FAMILY_FIRST) {
            errno = EOPNOTSUPP;    /* a group of the kernel: this socket is not the kernel's */
            result = -1;
        } else {
            struct iovec iov = { &group, sizeof group };
            pthread_mutex_lock(&s->lock);
            result = frame_exchange(fd, s, option == NETLINK_ADD_MEMBERSHIP ? FRAME_JOIN : FRAME_LEAVE, &iov, 1);
            pthread_mutex_unlock(&s->lock);
        }
    }
    socket_put(s);
    return result;
}

/* ---- Sending. ---- */

/* Per thread: the routing socket whose probe was answered, and with which header; -1 when none waits. */
static __thread int probe_fd = -1;
static __thread struct nlmsghdr probe_request;

/*
 * ovs-vswitchd asks whether the kernel can make devices of kind "ovs_geneve". That it can means to it that tunnels are made
 * by the datapath of old, through ovs_vport, and that is what the daemon does; so this question never reaches the kernel.
 */
static int compat_probe(int fd, const struct msghdr *m)
{
    if (m->msg_iovlen != 1 || m->msg_iov[0].iov_len < sizeof(struct nlmsghdr)) {
        return 0;
    }
    struct nlmsghdr h;
    memcpy(&h, m->msg_iov[0].iov_base, sizeof h);
    if (h.nlmsg_type != RTM_NEWLINK || memmem(m->msg_iov[0].iov_base, m->msg_iov[0].iov_len, "ovs_geneve", 10) == NULL) {
        return 0;
    }
    probe_fd = fd;
    probe_request = h;
    return 1;
}

static size_t total_length(const struct msghdr *m)
{
    size_t length = 0;
    for (size_t i = 0; i < m->msg_iovlen; i++) {
        length += m->msg_iov[i].iov_len;
    }
    return length;
}

/* Copy the beginning of what a message holds. Returns how much there was. */
static size_t gather(void *to, size_t length, const struct msghdr *m)
{
    size_t got = 0;
    for (size_t i = 0; i < m->msg_iovlen && got < length; i++) {
        size_t part = m->msg_iov[i].iov_len < length - got ? m->msg_iov[i].iov_len : length - got;
        memcpy((char *) to + got, m->msg_iov[i].iov_base, part);
        got += part;
    }
    return got;
}

static ssize_t send_datagram(int fd, struct shim_socket *s, const struct msghdr *m)
{
    size_t length = total_length(m);
    struct nlmsghdr first;
    int result;
    if (is_dead(s)) {
        return -1;
    }
    memset(&first, 0, sizeof first);
    size_t got = gather(&first, sizeof first, m);
    pthread_mutex_lock(&s->lock);
    if (got == sizeof first && first.nlmsg_type < FAMILY_FIRST && length < FRAME_MAX) {
        char *whole = malloc(length);
        if (whole == NULL) {
            errno = ENOMEM;
            result = -1;
        } else if (gather(whole, length, m), for_kernel(whole, length)) {
            result = ask_kernel(s, whole, length);
        } else {
            result = frame_exchange(fd, s, FRAME_DATAGRAM, m->msg_iov, m->msg_iovlen);
        }
        free(whole);
    } else {
        result = frame_exchange(fd, s, FRAME_DATAGRAM, m->msg_iov, m->msg_iovlen);
    }
    pthread_mutex_unlock(&s->lock);
    if (result < 0 && (errno == EPIPE || errno == ECONNRESET)) {
        mark_dead(fd, s);
    }
    return result < 0 ? -1 : (ssize_t) length;
}

/* Whether a datagram for netfilter is about connections: the daemon's affair. */
static int about_connections(const struct msghdr *m)
{
    struct nlmsghdr first;
    if (gather(&first, sizeof first, m) != sizeof first) {
        return 0;
    }
    int subsystem = NFNL_SUBSYS_ID(first.nlmsg_type);
    return subsystem == NFNL_SUBSYS_CTNETLINK || subsystem == NFNL_SUBSYS_CTNETLINK_EXP
           || subsystem == NFNL_SUBSYS_CTNETLINK_TIMEOUT;
}

/* Make sure that there is a side connection of this process. Returns 0, or -1 with errno. */
static int side_open(struct shim_socket *s)
{
    struct sockaddr_un address;
    struct stat status;
    uint32_t port;
    /* A child may read on in a dump of its parent. */
    if (side_is_there(s) && (s->side_owner == getpid() || s->dump != DUMP_NONE)) {
        return 0;
    }
    side_drop(s);
    if (daemon_address(&address) <= 0) {
        return -1;
    }
    s->side = daemon_connect(&address, SOCK_CLOEXEC, &port);
    if (s->side < 0) {
        return -1;
    }
    s->side_owner = getpid();
    s->side_inode = fstat(s->side, &status) == 0 ? status.st_ino : 0;
    return 0;
}

/* Put a datagram about connections to the daemon. When the daemon is another one than the last time, the connection is made anew. */
static ssize_t send_side(int fd, struct shim_socket *s, const struct msghdr *m)
{
    REAL(getsockname);
    struct sockaddr_nl own = { .nl_pid = 0 };
    socklen_t own_length = sizeof own;
    int result = -1;
    real_getsockname(fd, (struct sockaddr *) &own, &own_length);
    pthread_mutex_lock(&s->lock);
    s->port = own.nl_pid;
    for (int attempt = 0; attempt < 2 && side_open(s) == 0; attempt++) {
        result = frame_exchange(s->side, s, FRAME_DATAGRAM, m->msg_iov, m->msg_iovlen);
        if (result == 0 || (errno != EPIPE && errno != ECONNRESET)) {
            break;
        }
        int error = errno;
        side_drop(s);
        errno = error;
    }
    pthread_mutex_unlock(&s->lock);
    return result < 0 ? -1 : (ssize_t) total_length(m);
}

ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
    struct shim_socket *s = socket_get(fd);
    if (s == NULL) {
        return raw_sendmsg(fd, m, flags);
    }
    ssize_t result;
    if (s->kind == KIND_GENERIC) {
        result = send_datagram(fd, s, m);
    } else if (s->kind == KIND_NETFILTER && about_connections(m)) {
        result = send_side(fd, s, m);
    } else if (s->kind == KIND_ROUTE && compat_probe(fd, m)) {
        result = (ssize_t) total_length(m);
    } else {
        result = raw_sendmsg(fd, m, flags);
    }
    socket_put(s);
    return result;
}

ssize_t sendto(int fd, const void *bytes, size_t length, int flags, const struct sockaddr *to, socklen_t to_length)
{
    REAL(sendto);
    struct shim_socket *s = kind_get(fd, KIND_GENERIC | KIND_NETFILTER);
    if (s == NULL) {
        return real_sendto(fd, bytes, length, flags, to, to_length);
    }
    struct iovec iov = { (void *) bytes, length };
    struct msghdr m = { .msg_name = (void *) to, .msg_namelen = to_length, .msg_iov = &iov, .msg_iovlen = 1 };
    socket_put(s);
    return sendmsg(fd, &m, flags);
}

ssize_t send(int fd, const void *bytes, size_t length, int flags)
{
    return sendto(fd, bytes, length, flags, NULL, 0);
}

ssize_t write(int fd, const void *bytes, size_t length)
{
    REAL(write);
    struct shim_socket *s = kind_get(fd, KIND_GENERIC | KIND_NETFILTER);
    if (s == NULL) {
        return real_write(fd, bytes, length);
    }
    socket_put(s);
    return sendto(fd, bytes, length, 0, NULL, 0);
}

ssize_t writev(int fd, const struct iovec *iov, int count)
{
    REAL(writev);
    struct shim_socket *s = kind_get(fd, KIND_GENERIC | KIND_NETFILTER);
    if (s == NULL) {
        return real_writev(fd, iov, count);
    }
    socket_put(s);
    struct msghdr m = { .msg_iov = (struct iovec *) iov, .msg_iovlen = count };
    return sendmsg(fd, &m, 0);
}

/* ---- Receiving. ---- */

/* Copy a datagram into a caller's message. Returns what recvmsg would. */
static ssize_t scatter(struct msghdr *m, const char *bytes, size_t length, int flags)
{
    size_t done = 0;
    for (size_t i = 0; i < m->msg_iovlen && done < length; i++) {
        size_t part = m->msg_iov[i].iov_len < length - done ? m->msg_iov[i].iov_len : length - done;
        memcpy(m->msg_iov[i].iov_base, bytes + done, part);
        done += part;
    }
    m->msg_controllen = 0;
    m->msg_flags = done < length ? MSG_TRUNC : 0;
    if (m->msg_name != NULL) {
        netlink_address(m->msg_name, &m->msg_namelen, 0);
    }
    return flags & MSG_TRUNC ? (ssize_t) length : (ssize_t) done;
}

/* Hand out the head of the queue. The socket's lock is held; link is its connection to the daemon. */
static ssize_t take(int link, struct shim_socket *s, struct msghdr *m, int flags)
{
    struct datagram *d = s->head;
    ssize_t result = scatter(m, d->bytes, d->length, flags);
    if (!(flags & MSG_PEEK)) {
        s->head = d->next;
        if (s->head == NULL) {
            s->tail = &s->head;
            ask_more(link, s);
        }
        free(d);
    }
    return result;
}

static void note_room(struct shim_socket *s, const struct msghdr *m)
{
    size_t room = total_length(m);
    if (room > s->room) {
        s->room = room < FRAME_MAX ? room : FRAME_MAX;
    }
}

/*
 * One datagram from the queue or the connection. The lock is never held while waiting for what nobody asked for, so that a
 * request of another thread on the same socket goes on, and its "done" is not taken by us.
 */
static ssize_t receive(int fd, struct shim_socket *s, struct msghdr *m, int flags)
{
    char *buffer = frame_buffer();
    if (buffer == NULL) {
        errno = ENOMEM;
        return -1;
    }
    for (;;) {
        if (is_dead(s)) {
            return -1;
        }
        pthread_mutex_lock(&s->lock);
        note_room(s, m);
        if (fetch_dump(fd, s) < 0) {
            pthread_mutex_unlock(&s->lock);
            return -1;
        }
        if (s->head == NULL) {
            ssize_t n = raw_recv(fd, buffer, FRAME_MAX, MSG_DONTWAIT);
            struct verdict verdict = { 0, 0 };
            if (n == 0) {
                errno = ECONNRESET;    /* netlink never ends: this must fail */
                n = -1;
            }
            if (n < 0 && errno != EAGAIN && errno != EINTR) {
                pthread_mutex_unlock(&s->lock);
                mark_dead(fd, s);
                return -1;
            }
            if (n > 0) {
                take_frames(s, buffer, n, &verdict);
            }
            if (verdict.error != 0) {
                pthread_mutex_unlock(&s->lock);
                errno = verdict.error;
                return -1;
            }
        }
        if (s->head != NULL) {
            ssize_t result = take(fd, s, m, flags);
            pthread_mutex_unlock(&s->lock);
            return result;
        }
        pthread_mutex_unlock(&s->lock);
        REAL(fcntl);
        if ((flags & MSG_DONTWAIT) || (real_fcntl(fd, F_GETFL) & O_NONBLOCK)) {
            errno = EAGAIN;
            return -1;
        }
        if (raw_poll(fd, POLLIN) < 0) {
            return -1;
        }
    }
}

/* As receive, for a socket of netfilter: what the daemon has answered comes first, then what the kernel has. */
static ssize_t receive_side(int fd, struct shim_socket *s, struct msghdr *m, int flags)
{
    REAL(recvmsg);
    ssize_t result = 0;
    pthread_mutex_lock(&s->lock);
    note_room(s, m);
    int failed = fetch_dump(s->side, s) < 0;
    int ours = !failed && s->head != NULL;
    if (ours) {
        result = take(s->side, s, m, flags);
    }
    int error = errno;
    if (failed) {
        side_drop(s);
    }
    pthread_mutex_unlock(&s->lock);
    errno = error;
    return failed ? -1 : ours ? result : real_recvmsg(fd, m, flags);
}

ssize_t recvmsg(int fd, struct msghdr *m, int flags)
{
    REAL(recvmsg);
    if (fd == probe_fd && fd >= 0) {
        struct {
            struct nlmsghdr header;
            struct nlmsgerr error;
        } answer = { .header = { sizeof answer, NLMSG_ERROR, 0, probe_request.nlmsg_seq, probe_request.nlmsg_pid },
                     .error = { .error = 0, .msg = probe_request } };
        probe_fd = -1;
        return scatter(m, (const char *) &answer, sizeof answer, flags);
    }
    struct shim_socket *s = kind_get(fd, KIND_GENERIC | KIND_NETFILTER);
    if (s == NULL) {
        return real_recvmsg(fd, m, flags);
    }
    ssize_t result = s->kind == KIND_GENERIC ? receive(fd, s, m, flags) : receive_side(fd, s, m, flags);
    socket_put(s);
    return result;
}

ssize_t recvfrom(int fd, void *to, size_t length, int flags, struct sockaddr *from, socklen_t *from_length)
{
    REAL(recvfrom);
    struct shim_socket *s = kind_get(fd, KIND_GENERIC | KIND_NETFILTER);
    if (s == NULL) {
        return real_recvfrom(fd, to, length, flags, from, from_length);
    }
    struct iovec iov = { to, length };
    struct msghdr m = { .msg_name = from, .msg_namelen = from_length != NULL ? *from_length : 0, .msg_iov = &iov, .msg_iovlen = 1 };
    ssize_t result = s->kind == KIND_GENERIC ? receive(fd, s, &m, flags) : receive_side(fd, s, &m, flags);
    if (from_length != NULL) {
        *from_length = m.msg_namelen;
    }
    socket_put(s);
    return result;
}

ssize_t recv(int fd, void *to, size_t length, int flags)
{
    return recvfrom(fd, to, length, flags, NULL, NULL);
}

ssize_t read(int fd, void *to, size_t length)
{
    REAL(read);
    struct shim_socket *s = kind_get(fd, KIND_GENERIC | KIND_NETFILTER);
    if (s == NULL) {
        return real_read(fd, to, length);
    }
    socket_put(s);
    return recvfrom(fd, to, length, 0, NULL, NULL);
}

ssize_t readv(int fd, const struct iovec *iov, int count)
{
    REAL(readv);
    struct shim_socket *s = kind_get(fd, KIND_GENERIC | KIND_NETFILTER);
    if (s == NULL) {
        return real_readv(fd, iov, count);
    }
    socket_put(s);
    struct msghdr m = { .msg_iov = (struct iovec *) iov, .msg_iovlen = count };
    return recvmsg(fd, &m, 0);
}

/* ---- Waiting. ---- */

/* Whether a read would find something that the kernel's poll does not see. */
static int holds(const struct pollfd *p)
{
    struct shim_socket *s = p->events & POLLIN ? kind_get(p->fd, KIND_GENERIC | KIND_NETFILTER) : NULL;
    if (s == NULL) {
        return 0;
    }
    int found = __atomic_load_n(&s->head, __ATOMIC_RELAXED) != NULL || __atomic_load_n(&s->dump, __ATOMIC_RELAXED) != DUMP_NONE;
    socket_put(s);
    return found;
}

static int any_holds(const struct pollfd *descriptors, nfds_t count)
{
    for (nfds_t i = 0; i < count; i++) {
        if (holds(&descriptors[i])) {
            return 1;
        }
    }
    return 0;
}

/* Add what the kernel's poll, which found so many, has not seen. */
static int add_held(struct pollfd *descriptors, nfds_t count, int ready)
{
    for (nfds_t i = 0; i < count && ready >= 0; i++) {
        if (!(descriptors[i].revents & POLLIN) && holds(&descriptors[i])) {
            ready += descriptors[i].revents == 0;
            descriptors[i].revents |= POLLIN;
        }
    }
    return ready;
}

/*
 * epoll is left alone: Open vSwitch uses it only for upcall sockets, which never send and so never have a queue. While a dump
 * goes on, its next part is asked for ahead, so that epoll sees it.
 */
int poll(struct pollfd *descriptors, nfds_t count, int timeout_ms)
{
    REAL(poll);
    if (!any_holds(descriptors, count)) {
        return real_poll(descriptors, count, timeout_ms);
    }
    return add_held(descriptors, count, real_poll(descriptors, count, 0));
}

int ppoll(struct pollfd *descriptors, nfds_t count, const struct timespec *timeout, const sigset_t *signals)
{
    REAL(ppoll);
    if (!any_holds(descriptors, count)) {
        return real_ppoll(descriptors, count, timeout, signals);
    }
    static const struct timespec now = { 0, 0 };
    return add_held(descriptors, count, real_ppoll(descriptors, count, &now, signals));
}

/* ---- The names by which programs built with _FORTIFY_SOURCE call the same functions: room is what the compiler knows of. ---- */

ssize_t __read_chk(int fd, void *to, size_t length, size_t room);
ssize_t __recv_chk(int fd, void *to, size_t length, size_t room, int flags);
ssize_t __recvfrom_chk(int fd, void *to, size_t length, size_t room, int flags, struct sockaddr *from, socklen_t *from_length);
int __poll_chk(struct pollfd *descriptors, nfds_t count, int timeout_ms, size_t room);

static void check_room(size_t length, size_t room)
{
    if (length > room) {
        abort();
    }
}

ssize_t __read_chk(int fd, void *to, size_t length, size_t room)
{
    check_room(length, room);
    return read(fd, to, length);
}

ssize_t __recv_chk(int fd, void *to, size_t length, size_t room, int flags)
{
    check_room(length, room);
    return recv(fd, to, length, flags);
}

ssize_t __recvfrom_chk(int fd, void *to, size_t length, size_t room, int flags, struct sockaddr *from, socklen_t *from_length)
{
    check_room(length, room);
    return recvfrom(fd, to, length, flags, from, from_length);
}

int __poll_chk(struct pollfd *descriptors, nfds_t count, int timeout_ms, size_t room)
{
    check_room(count, room / sizeof *descriptors);
    return poll(descriptors, count, timeout_ms);
}

/* ---- Start: connections that were inherited through exec. ---- */

static void adopt(int fd, const struct sockaddr_un *daemon)
{
    REAL(getpeername);
    struct sockaddr_un peer;
    socklen_t length = sizeof peer;
    int type = 0;
    socklen_t type_length = sizeof type;
    memset(&peer, 0, sizeof peer);
    if (real_getpeername(fd, (struct sockaddr *) &peer, &length) < 0 || peer.sun_family != AF_UNIX
        || strncmp(peer.sun_path, daemon->sun_path, sizeof peer.sun_path) != 0
        || getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_length) < 0 || type != SOCK_SEQPACKET) {
        return;
    }
    struct shim_socket *s = socket_new(0, KIND_GENERIC);
    if (s == NULL) {
        return;
    }
    /* A part of a dump that was asked for before exec comes first, with a "done" of its own. */
    int failed = frame_exchange(fd, s, FRAME_WHO, NULL, 0) < 0;
    while (!failed && s->port == 0) {
        failed = await_done(fd, s) < 0;
    }
    if (failed) {
        socket_put(s);
    } else {
        table_set(fd, s);
    }
}

__attribute__((constructor)) static void start(void)
{
    struct sockaddr_un daemon;
    table_owner = getpid();
    pthread_atfork(before_fork, after_fork_parent, after_fork_child);
    if (daemon_address(&daemon) <= 0) {
        return;
    }
    for (int fd = 0; fd < 1024; fd++) {
        adopt(fd, &daemon);
    }
}
