/*
 * The work of the test guest: it counts, on the serial line and on two disks, and can tell at any time
 * whether its memory and its disks belong to the same instant.
 *
 *     count [ballast=MIB] [dirty=PAGES_PER_SECOND] [every=MILLISECONDS]
 *
 * Each step raises N, writes it to /mnt/a/count and then to /mnt/b/count, past every cache, and prints
 * `count N`. Before each step it reads both files back. They must hold what the process remembers of its
 * last step; otherwise memory and disks are of different instants, and it prints `differs N A B`.
 * Whoever starts anew, without memory, begins with `begin A B` and goes on from the greater one.
 *
 * A second process prints `beat N` several times a second and touches no disk, so it goes on while the
 * filesystems are frozen. It also keeps the ballast: random bytes that no dump can leave out, of which
 * it rewrites some pages every second.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 4096, LINE = 128 };

static uint64_t state = 88172645463325252ULL;

/* Marsaglia's xorshift: quick under emulation, and nothing compresses it. */
static uint64_t chance(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static long option(int count, char **values, const char *name, long otherwise)
{
    size_t length = strlen(name);
    for (int at = 1; at < count; at++)
        if (strncmp(values[at], name, length) == 0 && values[at][length] == '=')
            return strtol(values[at] + length + 1, NULL, 10);
    return otherwise;
}

/*
 * One write call a line, so that lines of two processes never mix. A machine without a serial line counts
 * all the same, so a line that nobody takes is no failure.
 */
static void say(const char *format, long one, long two, long three)
{
    char line[LINE];
    int length = snprintf(line, sizeof line, format, one, two, three);
    ssize_t taken = write(STDOUT_FILENO, line, (size_t)length);
    (void)taken;
}

static void sleep_ms(long milliseconds)
{
    struct timespec time = { milliseconds / 1000, milliseconds % 1000 * 1000000 };
    while (nanosleep(&time, &time) == -1 && errno == EINTR)
        ;
}

static void fail(const char *what)
{
    char line[LINE];
    int length = snprintf(line, sizeof line, "failed %s: %s\n", what, strerror(errno));
    ssize_t taken = write(STDOUT_FILENO, line, (size_t)length);
    (void)taken;
    _exit(2);
}

/* The file with the counter: a whole block that exists before anybody counts on it. */
static int open_counter(const char *path, char *block)
{
    int file = open(path, O_RDWR | O_CREAT | O_DSYNC, 0644);
    if (file == -1)
        fail(path);
    if (lseek(file, 0, SEEK_END) < BLOCK) {
        memset(block, '\n', BLOCK);
        memcpy(block, "0", 1);
        if (pwrite(file, block, BLOCK, 0) != BLOCK || fsync(file) == -1)
            fail(path);
        sync();
    }
    close(file);
    file = open(path, O_RDWR | O_DIRECT | O_DSYNC);
    if (file == -1)
        fail(path);
    return file;
}

static long read_counter(int file, char *block)
{
    if (pread(file, block, BLOCK, 0) != BLOCK)
        fail("reading a counter");
    return strtol(block, NULL, 10);
}

static void write_counter(int file, char *block, long value)
{
    memset(block, '\n', BLOCK);
    int length = snprintf(block, LINE, "%ld", value);
    block[length] = '\n';
    if (pwrite(file, block, BLOCK, 0) != BLOCK)
        fail("writing a counter");
}

static void beat(long ballast, long dirty, long every)
{
    size_t bytes = (size_t)ballast << 20;
    size_t pages = bytes / BLOCK;
    char *memory = NULL;
    if (bytes != 0) {
        memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED)
            fail("making the ballast");
        for (size_t at = 0; at < bytes; at += sizeof state)
            *(uint64_t *)(memory + at) = chance();
    }
    say("ballast %ld\n", ballast, 0, 0);
    for (long beats = 1;; beats++) {
        for (long page = dirty * every / 1000; pages != 0 && page > 0; page--) {
            char *start = memory + chance() % pages * BLOCK;
            for (size_t at = 0; at < BLOCK; at += sizeof state)
                *(uint64_t *)(start + at) = chance();
        }
        say("beat %ld\n", beats, 0, 0);
        sleep_ms(every);
    }
}

int main(int count, char **values)
{
    long ballast = option(count, values, "ballast", 0);
    long dirty = option(count, values, "dirty", 0);
    long every = option(count, values, "every", 100);
    char *block = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block == MAP_FAILED)
        fail("making a block");
    pid_t child = fork();
    if (child == -1)
        fail("fork");
    if (child == 0)
        beat(ballast, dirty, every);
    int a = open_counter("/mnt/a/count", block);
    int b = open_counter("/mnt/b/count", block);
    long on_a = read_counter(a, block);
    long on_b = read_counter(b, block);
    say("begin %ld %ld\n", on_a, on_b, 0);
    long number = on_a > on_b ? on_a : on_b;
    for (;;) {
        number++;
        write_counter(a, block, number);
        write_counter(b, block, number);
        say("count %ld\n", number, 0, 0);
        sleep_ms(every);
        on_a = read_counter(a, block);
        on_b = read_counter(b, block);
        if (on_a != number || on_b != number)
            say("differs %ld %ld %ld\n", number, on_a, on_b);
    }
}
