/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The part of the benchmark link that has to be inside the processes: blocks of one file from one
 * node to another, over one connection on loopback. It prints a line of JSON for each round;
 * link.py chooses and sums up.
 *
 *   bench_link_blocks DIR BLOCK_BYTES BLOCKS_COUNT ROUNDS drop|hash|keep
 *
 * DIR is an empty directory. The source is a child process with the file in its store. What the
 * receiver does with a block that came: drops it unseen, as `curl -o /dev/null` would; hashes it
 * and compares; or takes it into its store, synced at the end, and forgets it after the round.
 */

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/mem.h"
#include "hash/sha256.h"
#include "link/link.h"
#include "measure.h"
#include "node/blocks_priv.h"
#include "store/hold.h"
#include "store/intake.h"
#include "store/maintain.h"

#define SEED 7
/* Blocks that are asked for and have not come. */
#define WINDOW 16u

enum mode { MODE_DROP, MODE_HASH, MODE_KEEP };

/* What the source tells before it serves. */
struct hello {
    struct address address;
    struct id file;
};

struct node {
    struct node_id id;
    struct node_id other_id;
    struct address other; /* of the receiver alone */
    struct store *store;
    struct link *link;
    struct blocks *blocks;
    int listen_fd;
    _Atomic bool is_over;
    pthread_t acceptor;

    /* The receiver's. */
    enum mode mode;
    struct file_metadata metadata;
    struct id file;
    struct store_intake *intake;
    pthread_mutex_t lock; /* over all below */
    pthread_cond_t changed;
    bool *is_asked; /* by block */
    uint32_t next;  /* none before it is to be asked for */
    uint32_t asked_count;
    uint32_t came_count;
    uint32_t number;
    uint32_t of_number[4 * WINDOW]; /* the block of a request, by its number modulo this */
};

/* ---- events of the receiver ---------------------------------------------------------------------
 */

/* Under the lock. */
static void ask_on(struct node *node)
{
    while (node->asked_count < WINDOW && node->next < node->metadata.blocks_count) {
        const uint32_t index = node->next;
        if (!node->is_asked[index]) {
            const struct transfer_part part = {.id = node->metadata.blocks[index].id,
                                               .index = index,
                                               .size_bytes =
                                                   node->metadata.blocks[index].size_bytes};
            node->is_asked[index] = true;
            node->asked_count++;
            node->of_number[node->number % ARRAY_SIZE(node->of_number)] = index;
            blocks_request(node->blocks, &node->other_id, node->number++, true, &node->file, &part,
                           1);
        }
        node->next++;
    }
    blocks_flush(node->blocks);
}

static void on_offer(void *context, const struct node_id *peer, struct blocks_offer *offer)
{
    struct node *node = context;
    (void)peer;
    pthread_mutex_lock(&node->lock);
    must("offer", offer->state == TRANSFER_COMPLETE ? 0 : -ENOENT);
    must("metadata", file_metadata_parse(offer->metadata_text, &node->metadata));
    pthread_cond_signal(&node->changed);
    pthread_mutex_unlock(&node->lock);
}

static int on_deliver(void *context, const struct node_id *peer, const struct id *file,
                      uint32_t index, const struct id *block, struct bytes bytes)
{
    struct node *node = context;
    (void)peer;
    (void)file;
    if (node->mode == MODE_HASH) {
        struct id id;
        sha256_id(bytes, &id);
        return id_equal(&id, block) ? 0 : -EBADMSG;
    }
    return node->mode == MODE_KEEP ? store_intake_block(node->intake, index, bytes) : 0;
}

static void on_block(void *context, const struct node_id *peer, uint32_t number, uint16_t position,
                     int err, uint32_t size_bytes)
{
    struct node *node = context;
    (void)peer;
    (void)number;
    (void)position;
    (void)size_bytes;
    must("block", err);
    pthread_mutex_lock(&node->lock);
    node->asked_count--;
    node->came_count++;
    if (node->came_count == node->metadata.blocks_count) {
        pthread_cond_signal(&node->changed);
    } else {
        ask_on(node);
    }
    pthread_mutex_unlock(&node->lock);
}

/* Asked for again when another one has come; or at once, if none is on its way. */
static void on_refused(void *context, const struct node_id *peer, uint32_t number,
                       uint16_t position, enum transfer_refusal why, const struct node_id *others,
                       size_t others_count)
{
    struct node *node = context;
    (void)peer;
    (void)position;
    (void)others;
    (void)others_count;
    must("refused", why == TRANSFER_REFUSED_BUSY ? 0 : -ENOENT);
    pthread_mutex_lock(&node->lock);
    const uint32_t index = node->of_number[number % ARRAY_SIZE(node->of_number)];
    node->is_asked[index] = false;
    node->next = index < node->next ? index : node->next;
    node->asked_count--;
    if (node->asked_count == 0) {
        ask_on(node);
    }
    pthread_mutex_unlock(&node->lock);
}

static void on_received(void *context, const struct node_id *peer, size_t bytes_count)
{
    (void)context;
    (void)peer;
    (void)bytes_count;
}

static void on_lost(void *context, const struct node_id *peer, enum blocks_end why)
{
    const struct node *node = context;
    (void)peer;
    (void)why;
    must("lost", node->is_over ? 0 : -EPIPE);
}

static void on_more(void *context, const struct node_id *peer, const struct id *file,
                    const uint32_t *indices, size_t count)
{
    (void)context;
    (void)peer;
    (void)file;
    (void)indices;
    (void)count;
}

static void on_asked(void *context, const struct node_id *peer, const struct id *file)
{
    (void)context;
    (void)peer;
    (void)file;
}

/* ---- a node ------------------------------------------------------------------------------------
 */

static bool find_member(void *context, const struct node_id *id, struct address *ret_address)
{
    const struct node *node = context;
    *ret_address = node->other;
    return node_id_equal(id, &node->other_id);
}

static void *accept_all(void *argument)
{
    struct node *node = argument;
    while (!node->is_over) {
        struct pollfd waited = {.fd = node->listen_fd, .events = POLLIN};
        if (poll(&waited, 1, 20) > 0) {
            const int fd = accept4(node->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
            if (fd >= 0) {
                link_accept(node->link, fd);
            }
        }
    }
    return NULL;
}

static struct address listen_on_loopback(struct node *node)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof in;
    node->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must("listen", bind(node->listen_fd, (struct sockaddr *)&in, sizeof in) ||
                           listen(node->listen_fd, 16) ||
                           getsockname(node->listen_fd, (struct sockaddr *)&in, &size)
                       ? err_from_errno(errno)
                       : 0);
    struct address address = {.port = ntohs(in.sin_port)};
    address.ip[10] = address.ip[11] = 0xff;
    memcpy(address.ip + 12, &in.sin_addr, 4);
    return address;
}

static void node_begin(struct node *node, uint8_t number, const char *dir, const char *name)
{
    CLEANUP_FREE char *path = mem_format("%s/%s", dir, name);
    memset(node->id.bytes, number, sizeof node->id.bytes);
    memset(node->other_id.bytes, 3 - number, sizeof node->other_id.bytes);
    pthread_mutex_init(&node->lock, NULL);
    pthread_cond_init(&node->changed, NULL);
    must("store", store_open(&(struct store_options){.path = path}, &node->store));
    const struct blocks_options options = {
        .store = node->store,
        .events = {.offer = on_offer,
                   .more = on_more,
                   .deliver = on_deliver,
                   .block = on_block,
                   .refused = on_refused,
                   .received = on_received,
                   .lost = on_lost,
                   .asked = on_asked},
        .context = node,
        .find_member = find_member,
        .member_context = node,
    };
    must("blocks", blocks_open(&options, &node->blocks));
    const struct link_service service = blocks_service(node->blocks);
    const struct link_options link_options = {
        .id = node->id, .boot_nonce = number, .services = &service, .services_count = 1};
    must("link", link_open(&link_options, &node->link));
    blocks_start(node->blocks, node->link);
}

static void node_end(struct node *node)
{
    node->is_over = true;
    blocks_stop(node->blocks);
    link_close(node->link);
    blocks_free(node->blocks);
    file_metadata_done(&node->metadata);
    store_close(node->store);
    free(node->is_asked);
}

/* ---- the source --------------------------------------------------------------------------------
 */

static struct id fill(struct store *store, uint32_t block_bytes, uint32_t count)
{
    CLEANUP_FILE_METADATA struct file_metadata metadata = FILE_METADATA_INIT;
    uint8_t *data = mem_alloc_aligned(4096, block_bytes);
    struct random random;
    struct id id;
    random_init(&random, SEED);
    for (uint32_t i = 0; i < count; i++) {
        random_fill(&random, data, block_bytes);
        sha256_id(BYTES(data, block_bytes), &id);
        must("metadata", file_metadata_add(&metadata, &id, block_bytes));
    }
    struct store_intake *intake = NULL;
    must("intake", store_intake_open(store, &metadata, STORE_ORIGIN, &intake));
    id = *store_intake_id(intake);
    random_init(&random, SEED);
    for (uint32_t i = 0; i < count; i++) {
        random_fill(&random, data, block_bytes);
        must("fill", store_intake_block(intake, i, BYTES(data, block_bytes)));
    }
    must("commit", store_intake_commit(intake));
    free(data);
    return id;
}

static void serve(const char *dir, uint32_t block_bytes, uint32_t count, int hello_fd, int end_fd)
{
    struct node node = {0};
    node_begin(&node, 1, dir, "source");
    struct hello hello = {.address = listen_on_loopback(&node),
                          .file = fill(node.store, block_bytes, count)};
    must("acceptor", -pthread_create(&node.acceptor, NULL, accept_all, &node));
    must("hello", write(hello_fd, &hello, sizeof hello) == sizeof hello ? 0 : -EIO);
    char byte;
    (void)!read(end_fd, &byte, 1); /* until the receiver is gone */
    node.is_over = true;
    pthread_join(node.acceptor, NULL);
    node_end(&node);
    close(node.listen_fd);
}

/* ---- the receiver ------------------------------------------------------------------------------
 */

static void fetch(struct node *node, clockid_t source_clock)
{
    if (node->mode == MODE_KEEP) {
        must("intake", store_intake_open(node->store, &node->metadata, STORE_CACHE, &node->intake));
    }
    memset(node->is_asked, 0, node->metadata.blocks_count * sizeof node->is_asked[0]);
    node->next = 0;
    node->came_count = 0;
    const double source_begin = seconds_of(source_clock);
    const struct stopwatch stopwatch = stopwatch_start();
    pthread_mutex_lock(&node->lock);
    ask_on(node);
    while (node->came_count < node->metadata.blocks_count) {
        pthread_cond_wait(&node->changed, &node->lock);
    }
    pthread_mutex_unlock(&node->lock);
    if (node->mode == MODE_KEEP) {
        must("commit", store_intake_commit(node->intake));
    }
    printf("{\"bytes\":%" PRIu64 ",\"source_cpu_seconds\":%.6f,", node->metadata.length_bytes,
           seconds_of(source_clock) - source_begin);
    print_times(stopwatch);
    puts("}");
    fflush(stdout);
    if (node->mode == MODE_KEEP) {
        const struct store_grace none = {0};
        must("release", store_release(node->store, &node->file, STORE_CACHE));
        must("tidy", store_tidy(node->store, &none));
    }
}

static void receive(const char *dir, enum mode mode, uint64_t rounds, const struct hello *hello,
                    pid_t source)
{
    struct node node = {.mode = mode, .file = hello->file, .other = hello->address};
    clockid_t source_clock;
    must("clock", -clock_getcpuclockid(source, &source_clock));
    node_begin(&node, 2, dir, "receiver");
    blocks_ask(node.blocks, &node.other_id, 0, TRANSFER_ASK_METADATA, &node.file);
    blocks_flush(node.blocks);
    pthread_mutex_lock(&node.lock);
    while (!node.metadata.blocks) {
        pthread_cond_wait(&node.changed, &node.lock);
    }
    pthread_mutex_unlock(&node.lock);
    node.is_asked = mem_alloc_array(node.metadata.blocks_count, sizeof node.is_asked[0]);
    for (uint64_t round = 0; round < rounds; round++) {
        fetch(&node, source_clock);
    }
    node_end(&node);
}

static enum mode mode_of(const char *text)
{
    static const char *const names[] = {
        [MODE_DROP] = "drop", [MODE_HASH] = "hash", [MODE_KEEP] = "keep"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (strcmp(text, names[i]) == 0) {
            return (enum mode)i;
        }
    }
    must(text, -EINVAL);
    return MODE_DROP;
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr,
                "usage: bench_link_blocks DIR BLOCK_BYTES BLOCKS_COUNT ROUNDS drop|hash|keep\n");
        return 2;
    }
    const uint32_t block_bytes = (uint32_t)number_of(argv[2]);
    const uint32_t count = (uint32_t)number_of(argv[3]);
    const uint64_t rounds = number_of(argv[4]);
    const enum mode mode = mode_of(argv[5]);
    int hello_fds[2];
    int end_fds[2];
    must("pipe", pipe(hello_fds) || pipe(end_fds) ? err_from_errno(errno) : 0);
    const pid_t source = fork();
    must("fork", source < 0 ? err_from_errno(errno) : 0);
    if (source == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(end_fds[1]);
        serve(argv[1], block_bytes, count, hello_fds[1], end_fds[0]);
        return 0;
    }
    struct hello hello;
    close(hello_fds[1]);
    must("hello", read(hello_fds[0], &hello, sizeof hello) == sizeof hello ? 0 : -EIO);
    receive(argv[1], mode, rounds, &hello, source);
    close(end_fds[1]);
    int status = 0;
    waitpid(source, &status, 0);
    return status ? 1 : 0;
}
