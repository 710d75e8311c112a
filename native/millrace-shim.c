/*
 * millrace-shim: preloaded into Open vSwitch's programs, it connects their generic netlink sockets to the Millrace daemon.
 *
 * A generic netlink socket becomes a connection to a Unix SOCK_SEQPACKET socket whose path is in MILLRACE_OVS_SOCKET. Every
 * datagram on it is a frame: a 32-bit kind and a payload.
 *
 *     to the daemon     0 a netlink datagram    2 join a group (u32)    3 leave a group (u32)    4 who am I
 *     from the daemon   0 a netlink datagram    1 done (s32 errno)      9 hello (u32 port id)
 *
 * The daemon says hello to every new connection, and answers each frame of ours with any number of datagrams and one "done".
 * A send returns only after "done": programs rely on replies being readable by then. Datagrams that arrive meanwhile wait in a
 * queue of ours, and later reads take from it first.
 *
 * Of what the daemon does not serve (families below FAMILY_FIRST, names that do not begin with "ovs_") the kernel is asked
 * over a netlink socket of a moment. Routing netlink goes to the kernel, but for one probe: see compat_probe.
 *
 * Neighbours: src/extensions/ovs/ is the other end of the connection.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

enum { FRAME_DATAGRAM = 0, FRAME_DONE = 1, FRAME_JOIN = 2, FRAME_LEAVE = 3, FRAME_WHO = 4, FRAME_HELLO = 9 };

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

/* What a descriptor stands for; descriptors that dup made share one. */
struct shim_socket {
    int references;
    int is_route;            /* a routing socket that only the probe is watched for */
    uint32_t port;           /* netlink port id */
    pthread_mutex_t lock;    /* serialises requests; guards the queue */
    struct datagram *head, **tail;
};

static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static struct shim_socket *table[FD_MAX];

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

static struct shim_socket *socket_new(uint32_t port, int is_route)
{
    struct shim_socket *s = calloc(1, sizeof *s);
    if (s != NULL) {
        s->references = 1;
        s->port = port;
        s->is_route = is_route;
        s->tail = &s->head;
        pthread_mutex_init(&s->lock, NULL);
    }
    return s;
}

/* Take a reference to what a descriptor stands for; NULL for a descriptor that is none of ours. */
static struct shim_socket *socket_get(int fd)
{
    if (fd < 0 || fd >= FD_MAX || __atomic_load_n(&table[fd], __ATOMIC_ACQUIRE) == NULL) {
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
    pthread_mutex_lock(&table_lock);
    struct shim_socket *before = table[fd];
    __atomic_store_n(&table[fd], s, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&table_lock);
    if (before != NULL) {
        socket_put(before);
    }
}

/* As socket_get, but only for netlink sockets that the daemon serves. */
static struct shim_socket *served_get(int fd)
{
    struct shim_socket *s = socket_get(fd);
    if (s != NULL && s->is_route) {
        socket_put(s);
        return NULL;
    }
    return s;
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
    pthread_mutex_init(&table_lock, NULL);
    for (int fd = 0; fd < FD_MAX; fd++) {
        if (table[fd] != NULL) {
            pthread_mutex_init(&table[fd]->lock, NULL);
        }
    }
}

/* ---- Frames. ---- */

static char *frame_buffer(void)
{
    static __thread char *buffer;
    if (buffer == NULL) {
        buffer = malloc(FRAME_MAX);
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

/*
 * Send a frame and wait for its "done"; datagrams on the way are queued. The socket's lock is held.
 * Returns 0, or -1 with errno: the daemon's, or ECONNRESET when the daemon is gone.
 */
static int frame_exchange(int fd, struct shim_socket *s, uint32_t kind, const struct iovec *iov, size_t count)
{
    char *buffer = frame_buffer();
    int trouble = 0;
    if (buffer == NULL) {
        errno = ENOMEM;
        return -1;
    }
    if (frame_send(fd, kind, iov, count) < 0) {
        return -1;
    }
    for (;;) {
        ssize_t n = raw_recv(fd, buffer, FRAME_MAX, 0);
        uint32_t word[2];
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno == EAGAIN) {
            raw_poll(fd, POLLIN);
            continue;
        }
        if (n < (ssize_t) sizeof word[0]) {
            errno = ECONNRESET;
            return -1;
        }
        memcpy(word, buffer, n < (ssize_t) sizeof word ? sizeof word[0] : sizeof word);
        if (word[0] == FRAME_DATAGRAM) {
            int error = queue_add(s, buffer + sizeof word[0], n - sizeof word[0]);
            trouble = error != 0 ? ENOBUFS : trouble;
        } else if (word[0] == FRAME_HELLO && n >= (ssize_t) sizeof word) {
            s->port = word[1];
        } else if (word[0] == FRAME_DONE && n >= (ssize_t) sizeof word) {
            int error = word[1] != 0 ? (int) word[1] : trouble;
            errno = error;
            return error != 0 ? -1 : 0;
        }
    }
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
        for (size_t at = 0; at + sizeof(struct nlmsghdr) <= (size_t) n;) {
            struct nlmsghdr h;
            memcpy(&h, buffer + at, sizeof h);
            h.nlmsg_pid = s->port;
            memcpy(buffer + at, &h, sizeof h);
            if (h.nlmsg_len < sizeof h) {
                break;
            }
            at += NLMSG_ALIGN(h.nlmsg_len);
        }
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
    uint32_t hello[2];
    ssize_t n;
    do {
        n = raw_recv(fd, hello, sizeof hello, 0);
        if (n < 0 && errno == EAGAIN) {
            raw_poll(fd, POLLIN);
            errno = EINTR;
        }
    } while (n < 0 && errno == EINTR);
    return n == sizeof hello && hello[0] == FRAME_HELLO ? hello[1] : 0;
}

static int daemon_address(struct sockaddr_un *address)
{
    const char *path = getenv("MILLRACE_OVS_SOCKET");
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    if (path == NULL || *path == '\0' || strlen(path) >= sizeof address->sun_path) {
        return -1;
    }
    strcpy(address->sun_path, path);
    return 0;
}

int socket(int domain, int type, int protocol)
{
    REAL(socket);
    REAL(connect);
    struct sockaddr_un address;
    if (domain != AF_NETLINK || daemon_address(&address) < 0) {
        return real_socket(domain, type, protocol);
    }
    if (protocol == NETLINK_ROUTE) {
        int fd = real_socket(domain, type, protocol);
        if (fd >= 0) {
            table_set(fd, socket_new(0, 1));
        }
        return fd;
    }
    if (protocol != NETLINK_GENERIC) {
        return real_socket(domain, type, protocol);
    }
    int fd = real_socket(AF_UNIX, SOCK_SEQPACKET | (type & (SOCK_CLOEXEC | SOCK_NONBLOCK)), 0);
    if (fd < 0) {
        return -1;
    }
    /* A batch of requests must fit. */
    int room = FRAME_MAX;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    uint32_t port = 0;
    int connected;
    do {
        connected = real_connect(fd, (struct sockaddr *) &address, sizeof address);
        if (connected < 0 && errno == EAGAIN) {
            usleep(1000);    /* the daemon's backlog is full */
            errno = EINTR;
        }
    } while (connected < 0 && errno == EINTR);
    if (connected < 0) {
        goto failed;
    }
    port = read_hello(fd);
    struct shim_socket *s = port != 0 && fd < FD_MAX ? socket_new(port, 0) : NULL;
    if (s == NULL) {
        errno = port == 0 ? ECONNRESET : ENFILE;
        goto failed;
    }
    table_set(fd, s);
    return fd;

failed:;
    int error = errno;
    raw_close(fd);
    errno = error;
    return -1;
}

int close(int fd)
{
    table_set(fd, NULL);
    return raw_close(fd);
}

/* Both descriptors stand for the same socket afterwards. */
static int copied(int from, int to)
{
    if (to >= 0 && to != from) {
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

int bind(int fd, const struct sockaddr *address, socklen_t length)
{
    REAL(bind);
    struct shim_socket *s = served_get(fd);
    if (s == NULL) {
        return real_bind(fd, address, length);
    }
    socket_put(s);
    return 0;
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
    struct shim_socket *s = level == SOL_NETLINK ? served_get(fd) : NULL;
    if (s == NULL) {
        return real_setsockopt(fd, level, option, value, length);
    }
    int result = 0;
    if (option == NETLINK_ADD_MEMBERSHIP || option == NETLINK_DROP_MEMBERSHIP) {
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

static ssize_t send_datagram(int fd, struct shim_socket *s, const struct msghdr *m)
{
    size_t length = total_length(m);
    struct nlmsghdr first;
    size_t got = 0;
    memset(&first, 0, sizeof first);
    for (size_t i = 0; i < m->msg_iovlen && got < sizeof first; i++) {
        size_t part = m->msg_iov[i].iov_len < sizeof first - got ? m->msg_iov[i].iov_len : sizeof first - got;
        memcpy((char *) &first + got, m->msg_iov[i].iov_base, part);
        got += part;
    }
    int result;
    pthread_mutex_lock(&s->lock);
    if (got == sizeof first && first.nlmsg_type < FAMILY_FIRST && length < FRAME_MAX) {
        char *whole = malloc(length);
        size_t at = 0;
        for (size_t i = 0; whole != NULL && i < m->msg_iovlen; i++) {
            memcpy(whole + at, m->msg_iov[i].iov_base, m->msg_iov[i].iov_len);
            at += m->msg_iov[i].iov_len;
        }
        if (whole == NULL) {
            errno = ENOMEM;
            result = -1;
        } else if (for_kernel(whole, length)) {
            result = ask_kernel(s, whole, length);
        } else {
            result = frame_exchange(fd, s, FRAME_DATAGRAM, m->msg_iov, m->msg_iovlen);
        }
        free(whole);
    } else {
        result = frame_exchange(fd, s, FRAME_DATAGRAM, m->msg_iov, m->msg_iovlen);
    }
    pthread_mutex_unlock(&s->lock);
    return result < 0 ? -1 : (ssize_t) length;
}

ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
    struct shim_socket *s = socket_get(fd);
    if (s == NULL) {
        return raw_sendmsg(fd, m, flags);
    }
    ssize_t result;
    if (s->is_route) {
        result = compat_probe(fd, m) ? (ssize_t) total_length(m) : raw_sendmsg(fd, m, flags);
    } else {
        result = send_datagram(fd, s, m);
    }
    socket_put(s);
    return result;
}

ssize_t sendto(int fd, const void *bytes, size_t length, int flags, const struct sockaddr *to, socklen_t to_length)
{
    REAL(sendto);
    struct shim_socket *s = served_get(fd);
    if (s == NULL) {
        return real_sendto(fd, bytes, length, flags, to, to_length);
    }
    struct iovec iov = { (void *) bytes, length };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
    ssize_t result = send_datagram(fd, s, &m);
    socket_put(s);
    return result;
}

ssize_t send(int fd, const void *bytes, size_t length, int flags)
{
    return sendto(fd, bytes, length, flags, NULL, 0);
}

ssize_t write(int fd, const void *bytes, size_t length)
{
    REAL(write);
    struct shim_socket *s = served_get(fd);
    if (s == NULL) {
        return real_write(fd, bytes, length);
    }
    socket_put(s);
    return sendto(fd, bytes, length, 0, NULL, 0);
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

/*
 * One datagram from the queue or the connection. The lock is never held while waiting, so that a request of another thread on
 * the same socket goes on, and its "done" is not taken by us.
 */
static ssize_t receive(int fd, struct shim_socket *s, struct msghdr *m, int flags)
{
    char *buffer = frame_buffer();
    if (buffer == NULL) {
        errno = ENOMEM;
        return -1;
    }
    for (;;) {
        pthread_mutex_lock(&s->lock);
        if (s->head == NULL) {
            ssize_t n = raw_recv(fd, buffer, FRAME_MAX, MSG_DONTWAIT);
            uint32_t kind = FRAME_DONE;
            if (n == 0) {
                errno = ECONNRESET;    /* netlink never ends: this must fail */
                n = -1;
            }
            if (n < 0 && errno != EAGAIN && errno != EINTR) {
                pthread_mutex_unlock(&s->lock);
                return -1;
            }
            if (n >= (ssize_t) sizeof kind) {
                memcpy(&kind, buffer, sizeof kind);
            }
            if (kind == FRAME_DATAGRAM && queue_add(s, buffer + sizeof kind, n - sizeof kind) != 0) {
                pthread_mutex_unlock(&s->lock);
                errno = ENOBUFS;
                return -1;
            }
        }
        struct datagram *d = s->head;
        if (d != NULL) {
            ssize_t result = scatter(m, d->bytes, d->length, flags);
            if (!(flags & MSG_PEEK)) {
                s->head = d->next;
                if (s->head == NULL) {
                    s->tail = &s->head;
                }
                free(d);
            }
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
    struct shim_socket *s = served_get(fd);
    if (s == NULL) {
        return real_recvmsg(fd, m, flags);
    }
    ssize_t result = receive(fd, s, m, flags);
    socket_put(s);
    return result;
}

ssize_t recvfrom(int fd, void *to, size_t length, int flags, struct sockaddr *from, socklen_t *from_length)
{
    REAL(recvfrom);
    struct shim_socket *s = served_get(fd);
    if (s == NULL) {
        return real_recvfrom(fd, to, length, flags, from, from_length);
    }
    struct iovec iov = { to, length };
    struct msghdr m = { .msg_name = from, .msg_namelen = from_length != NULL ? *from_length : 0, .msg_iov = &iov, .msg_iovlen = 1 };
    ssize_t result = receive(fd, s, &m, flags);
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
    struct shim_socket *s = served_get(fd);
    if (s == NULL) {
        return real_read(fd, to, length);
    }
    socket_put(s);
    return recvfrom(fd, to, length, 0, NULL, NULL);
}

/*
 * Datagrams in our queue are not seen by the kernel's poll. epoll is left alone: Open vSwitch uses it only for upcall sockets,
 * which never send and so never have a queue.
 */
int poll(struct pollfd *descriptors, nfds_t count, int timeout_ms)
{
    REAL(poll);
    int waiting = 0;
    for (nfds_t i = 0; i < count; i++) {
        struct shim_socket *s = descriptors[i].events & POLLIN ? served_get(descriptors[i].fd) : NULL;
        if (s != NULL) {
            waiting |= __atomic_load_n(&s->head, __ATOMIC_RELAXED) != NULL;
            socket_put(s);
        }
    }
    int ready = real_poll(descriptors, count, waiting ? 0 : timeout_ms);
    if (!waiting || ready < 0) {
        return ready;
    }
    for (nfds_t i = 0; i < count; i++) {
        struct shim_socket *s = descriptors[i].events & POLLIN ? served_get(descriptors[i].fd) : NULL;
        if (s != NULL && s->head != NULL) {
            ready += descriptors[i].revents == 0;
            descriptors[i].revents |= POLLIN;
        }
        if (s != NULL) {
            socket_put(s);
        }
    }
    return ready;
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
    struct shim_socket *s = socket_new(0, 0);
    if (s == NULL || frame_exchange(fd, s, FRAME_WHO, NULL, 0) < 0) {
        if (s != NULL) {
            socket_put(s);
        }
        return;
    }
    table_set(fd, s);
}

__attribute__((constructor)) static void start(void)
{
    struct sockaddr_un daemon;
    if (daemon_address(&daemon) < 0) {
        return;
    }
    pthread_atfork(before_fork, after_fork_parent, after_fork_child);
    for (int fd = 0; fd < 1024; fd++) {
        adopt(fd, &daemon);
    }
}
