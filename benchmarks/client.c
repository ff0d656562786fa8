/* One client process in C: plain sockets and epoll, so that the server is what is measured.

   client echo PORT SOCKETS SECONDS HANDSHAKE REQUEST ANSWER
   client connects PORT SOCKETS SECONDS HANDSHAKE
   client storm PORT SOCKETS SECONDS HANDSHAKE KEYS PLACE
   client broadcast PORT SOCKETS SECONDS HANDSHAKE REQUEST ANSWER GREETING RATE

   HANDSHAKE, REQUEST, ANSWER and GREETING are numbers of bytes. The handshake and the request follow on standard input,
   then a line that says "go" once the client has said "ready". It prints what it reached per second: messages
   (every socket sends the request again when it has the whole answer to the last) or connections.

   A storm opens all sockets at once and prints how many were accepted, how many were refused, and the seconds
   until the last was accepted. The sockets use KEYS session keys in turn, which follow the handshake on
   standard input and are written into it at PLACE.

   In a broadcast, the first socket sends the request and all sockets get the answer; the server has greeted
   each of them before. With a RATE of 0 it prints how many broadcasts per second the server manages while
   WINDOW of them are on their way. Otherwise that many are sent per second, whether or not the earlier ones
   have arrived, and it prints the median and the 99th percentile of the milliseconds from the time at which a
   request was due until a socket had the answer. */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define EVENTS 256
#define HEAD 4096
#define KEY 32
#define WINDOW 4

static char buffer[1 << 20];
static struct sockaddr_in address;
static char *handshake, *request;
static size_t handshake_size, request_size;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void *allocate(size_t count, size_t size) {
    void *found = calloc(count ? count : 1, size);
    if (!found) fail("calloc");
    return found;
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static char *take(size_t size) {
    char *data = allocate(size, 1);
    if (fread(data, 1, size, stdin) != size) fail("standard input");
    return data;
}

static void send_all(int client, const char *data, size_t size) {
    for (size_t sent = 0; sent < size;) {
        ssize_t more = send(client, data + sent, size - sent, MSG_NOSIGNAL);
        if (more <= 0) fail("send");
        sent += more;
    }
}

/* A socket that has sent its handshake, and then one that has been accepted. */
static int begin(void) {
    int on = 1, client = socket(AF_INET, SOCK_STREAM, 0);
    if (client < 0) fail("socket");
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(client, (struct sockaddr *)&address, sizeof address)) fail("connect");
    send_all(client, handshake, handshake_size);
    return client;
}

static void finish(int client, size_t greeting) {
    char head[HEAD + 1], *body;
    size_t length = 0;
    do {
        ssize_t more = recv(client, head + length, HEAD - length, 0);
        if (more <= 0) fail("no answer to the handshake");
        length += more;
        head[length] = 0;
        body = strstr(head, "\r\n\r\n");
    } while ((!body || head + length < body + 4 + greeting) && length < HEAD);
    if (strncmp(head, "HTTP/1.1 101", 12)) {
        fprintf(stderr, "refused: %s\n", head);
        exit(1);
    }
}

static void wait_for_go(void) {
    puts("ready");
    fflush(stdout);
    if (!fgets(buffer, sizeof buffer, stdin)) fail("standard input");
}

static double echo(int sockets, double seconds, size_t answer) {
    int *clients = allocate(sockets, sizeof *clients), poll = epoll_create1(0);
    size_t *missing = allocate(sockets, sizeof *missing), count = 0;
    struct epoll_event events[EVENTS];
    if (poll < 0) fail("epoll_create1");
    for (int each = 0; each < sockets; each++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = each};
        clients[each] = begin();
        finish(clients[each], 0);
        missing[each] = answer;
        if (epoll_ctl(poll, EPOLL_CTL_ADD, clients[each], &event)) fail("epoll_ctl");
    }
    wait_for_go();
    double start = now(), end = start;
    for (int each = 0; each < sockets; each++) send_all(clients[each], request, request_size);
    while ((end = now()) < start + seconds) {
        int ready = epoll_wait(poll, events, EVENTS, 1000);
        for (int index = 0; index < ready; index++) {
            int each = events[index].data.u32;
            ssize_t got = recv(clients[each], buffer, sizeof buffer, 0);
            if (got <= 0 || (size_t)got > missing[each]) fail("an answer that was not asked for");
            missing[each] -= got;
            if (missing[each]) continue;
            missing[each] = answer;
            send_all(clients[each], request, request_size);
            count++;
        }
    }
    return count / (end - start);
}

static double connects(int sockets, double seconds) {
    int *clients = allocate(sockets, sizeof *clients);
    size_t count = 0;
    wait_for_go();
    double start = now(), end = start;
    while ((end = now()) < start + seconds) {
        for (int each = 0; each < sockets; each++) clients[each] = begin();
        for (int each = 0; each < sockets; each++) finish(clients[each], 0);
        for (int each = 0; each < sockets; each++) close(clients[each]);
        count += sockets;
    }
    return count / (end - start);
}

static void allow_many_files(void) {
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files)) fail("getrlimit");
    files.rlim_cur = files.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &files)) fail("setrlimit");
}

static int compare(const void *left, const void *right) {
    double difference = *(const double *)left - *(const double *)right;
    return (difference > 0) - (difference < 0);
}

static void broadcast(int sockets, double seconds, size_t answer, size_t greeting, double rate) {
    int *clients = allocate(sockets, sizeof *clients), poll = epoll_create1(0);
    /* The bytes that each socket has received, and the delays of all answers that have arrived. */
    size_t *received = allocate(sockets, sizeof *received), sent = 0, got = 0, most = rate * seconds + 1;
    double *delays = allocate(rate ? most * sockets : 1, sizeof *delays);
    struct epoll_event events[EVENTS];
    if (poll < 0) fail("epoll_create1");
    allow_many_files();
    for (int each = 0; each < sockets; each++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = each};
        clients[each] = begin();
        finish(clients[each], greeting);
        if (epoll_ctl(poll, EPOLL_CTL_ADD, clients[each], &event)) fail("epoll_ctl");
    }
    wait_for_go();
    double start = now(), time = start;
    while (time < start + seconds || (rate && got < sent * sockets)) {
        double due = rate ? start + sent / rate : time;
        int may_send = time < start + seconds && (rate ? sent < most : (sent + 1 - WINDOW) * sockets <= got || sent < WINDOW);
        if (may_send && due <= time) {
            send_all(clients[0], request, request_size);
            sent++;
            continue;
        }
        if (time > start + seconds + 30) fail("answers that never came");
        int wait = may_send ? (due - time) * 1000 : 100;
        int ready = epoll_wait(poll, events, EVENTS, wait);
        time = now();
        for (int index = 0; index < ready; index++) {
            int each = events[index].data.u32;
            ssize_t more = recv(clients[each], buffer, sizeof buffer, 0);
            if (more <= 0) fail("a connection that ended");
            size_t before = received[each] / answer;
            received[each] += more;
            for (size_t number = before; number < received[each] / answer; number++) {
                if (number >= sent) fail("an answer that was not asked for");
                if (rate) delays[got] = now() - (start + number / rate);
                got++;
            }
        }
    }
    if (!rate) {
        printf("%f\n", got / (double)sockets / (time - start));
        return;
    }
    qsort(delays, got, sizeof *delays, compare);
    printf("%f %f\n", delays[got / 2] * 1000, delays[got * 99 / 100] * 1000);
}

static void storm(int sockets, double seconds, size_t keys, size_t place) {
    int *clients = allocate(sockets, sizeof *clients), poll = epoll_create1(0), open = sockets;
    char *names = take(keys * KEY);
    size_t accepted = 0, refused = 0;
    struct epoll_event events[EVENTS];
    if (poll < 0) fail("epoll_create1");
    allow_many_files();
    wait_for_go();
    double start = now(), last = start;
    for (int each = 0; each < sockets; each++) {
        struct epoll_event event = {.events = EPOLLOUT, .data.u32 = each};
        clients[each] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        if (clients[each] < 0) fail("socket");
        if (connect(clients[each], (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS)
            fail("connect");
        if (epoll_ctl(poll, EPOLL_CTL_ADD, clients[each], &event)) fail("epoll_ctl");
    }
    while (open && now() < start + seconds) {
        int ready = epoll_wait(poll, events, EVENTS, 100);
        for (int index = 0; index < ready; index++) {
            int each = events[index].data.u32;
            if (events[index].events == EPOLLOUT) {
                struct epoll_event event = {.events = EPOLLIN, .data.u32 = each};
                if (keys) memcpy(handshake + place, names + each % keys * KEY, KEY);
                send_all(clients[each], handshake, handshake_size);
                if (epoll_ctl(poll, EPOLL_CTL_MOD, clients[each], &event)) fail("epoll_ctl");
                continue;
            }
            /* The first bytes of an answer are enough, and later ones are not looked at. */
            ssize_t got = recv(clients[each], buffer, sizeof buffer, 0);
            if (got < 0 && errno == EAGAIN) continue;
            if (got >= 12 && !strncmp(buffer, "HTTP/1.1 101", 12)) {
                accepted++;
                last = now();
            } else {
                refused++;
            }
            if (epoll_ctl(poll, EPOLL_CTL_DEL, clients[each], NULL)) fail("epoll_ctl");
            open--;
        }
    }
    printf("%zu %zu %f\n", accepted, refused, last - start);
}

int main(int count, char **arguments) {
    if (count < 4) return 2;
    int is_echo = !strcmp(arguments[1], "echo"), is_storm = !strcmp(arguments[1], "storm");
    int is_broadcast = !strcmp(arguments[1], "broadcast"), sockets = atoi(arguments[3]);
    if (count < (is_broadcast ? 10 : is_echo || is_storm ? 8 : 6)) return 2;
    double seconds = atof(arguments[4]);
    address.sin_family = AF_INET;
    address.sin_port = htons(atoi(arguments[2]));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setvbuf(stdin, NULL, _IONBF, 0);
    handshake_size = strtoul(arguments[5], NULL, 10);
    handshake = take(handshake_size);
    if (is_storm) {
        storm(sockets, seconds, strtoul(arguments[6], NULL, 10), strtoul(arguments[7], NULL, 10));
        return 0;
    }
    if (is_echo || is_broadcast) {
        request_size = strtoul(arguments[6], NULL, 10);
        request = take(request_size);
    }
    if (is_broadcast) {
        size_t answer = strtoul(arguments[7], NULL, 10), greeting = strtoul(arguments[8], NULL, 10);
        broadcast(sockets, seconds, answer, greeting, atof(arguments[9]));
        return 0;
    }
    printf("%f\n", is_echo ? echo(sockets, seconds, strtoul(arguments[7], NULL, 10)) : connects(sockets, seconds));
    return 0;
}
