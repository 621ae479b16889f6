/* The least that an average must do: read every byte of the inputs, write as many as one of them
 * has, and have them on disk, on two threads and with nothing else.
 *
 *   limit OUTPUT INPUT...     the inputs have one size
 *
 * Inputs are mapped and every word of them is read; pieces of the output are written from memory
 * that stays in cache, to space that was reserved before.
 */

#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { THREADS = 2, PIECE = 1 << 18 };

static int input_count, output;
static size_t size;
static const char **inputs;
static uint64_t seen[THREADS];

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t sum_of(const char *from, size_t length)
{
    uint64_t sum = 0, word;
    for (size_t at = 0; at + sizeof word <= length; at += sizeof word) {
        __builtin_memcpy(&word, from + at, sizeof word);
        sum += word;
    }
    return sum;
}

static void *take_turns(void *argument)
{
    size_t thread = (size_t)argument;
    char *piece = calloc(1, PIECE);
    if (!piece)
        fail("memory");
    for (size_t start = thread * PIECE; start < size; start += (size_t)THREADS * PIECE) {
        size_t length = size - start < PIECE ? size - start : PIECE;
        for (int each = 0; each < input_count; each++)
            seen[thread] += sum_of(inputs[each] + start, length);
        for (size_t done = 0; done < length;) {
            ssize_t written = pwrite(output, piece + done, length - done, (off_t)(start + done));
            if (written < 0)
                fail("write");
            done += (size_t)written;
        }
    }
    free(piece);
    return NULL;
}

int main(int count, char **words)
{
    pthread_t threads[THREADS];
    if (count < 3) {
        fprintf(stderr, "usage: limit OUTPUT INPUT...\n");
        return 2;
    }
    input_count = count - 2;
    inputs = calloc((size_t)input_count, sizeof *inputs);
    for (int each = 0; each < input_count; each++) {
        struct stat state;
        int input = open(words[each + 2], O_RDONLY);
        if (input < 0 || fstat(input, &state) < 0)
            fail(words[each + 2]);
        size = (size_t)state.st_size;
        inputs[each] = mmap(NULL, size, PROT_READ, MAP_SHARED, input, 0);
        if (inputs[each] == MAP_FAILED)
            fail(words[each + 2]);
    }
    output = open(words[1], O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (output < 0 || posix_fallocate(output, 0, (off_t)size) != 0)
        fail(words[1]);
    for (size_t each = 0; each < THREADS; each++)
        if (pthread_create(&threads[each], NULL, take_turns, (void *)each) != 0)
            fail("thread");
    for (size_t each = 0; each < THREADS; each++)
        pthread_join(threads[each], NULL);
    if (fsync(output) < 0)
        fail("sync");
    /* so that no reading is left out */
    printf("%llx\n", (unsigned long long)(seen[0] + seen[1]));
    return 0;
}
