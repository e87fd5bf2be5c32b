/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/replica.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/list.h"
#include "base/mem.h"
#include "hash/sha256.h"
#include "sim/replica_disk_priv.h"
#include "sim/world.h"
#include "tree/change.h"

#define SYNC_US_LEAST 1000u
#define SYNC_US_MOST 5000u
/* Until a snapshot is spooled: beside everything else, at a gigabyte a second. */
#define SPOOL_US (5 * SIM_US_PER_MS)
#define SPOOL_BYTES_PER_US 1000u
/* The host's clock for versions that ended begins here. */
#define EPOCH_MS UINT64_C(1700000000000)
/* Rows of the history that one transaction forgets. */
#define EXPIRE_ROWS 10000u

enum input_kind { INPUT_BROADCAST = 1, INPUT_MESSAGE, INPUT_DIGESTS, INPUT_CHANGED };

/* What arrived. */
struct input {
    struct input *next;
    enum input_kind kind;
    struct node_id from;
    struct digests digests;
    size_t size_bytes;
    uint8_t data[];
};

/* What is sent as soon as a write is on disk. */
struct output {
    struct output *next;
    bool is_broadcast;
    struct node_id to;
    uint64_t at_us;
    size_t size_bytes;
    uint8_t data[];
};

struct sim_replicas {
    struct sim_world *world;
    struct random random;
    uint32_t sync_us_least;
    uint32_t sync_us_most;
    struct sim_replica_observer observer;
    size_t slots_max;
    struct replica_disk *disks;
    struct sim_replica **running;
};

/* The file that a snapshot is written to. */
struct spool {
    struct buf bytes;  /* the last one that was done */
    struct buf coming; /* a later one, of the moment when it was asked for */
    bool is_coming;
    uint64_t at_us;
    int err;
};

struct sim_replica {
    struct sim_replicas *all;
    uint32_t slot;
    struct replica_disk *disk;
    struct tree_sync *sync;
    struct sim_replica_host host;
    struct random random;
    uint64_t now_us;        /* of the call under way, the node's clock */
    uint64_t busy_until_us; /* a write is under way until then */
    bool has_written;       /* and nobody was told yet that it is on disk */
    bool has_taken;         /* inputs were handed over, and not applied yet */
    struct input *inputs;
    struct input *inputs_last;
    struct output *outputs;
    struct output *outputs_last;
    bool has_ticked;
    struct spool spool;
};

/* ---- the world's ---- */

static int hold(void *context, struct kv_txn *txn, const struct id *file, bool is_published)
{
    (void)context;
    (void)txn;
    (void)file;
    (void)is_published;
    return 0;
}

static int release(void *context, struct kv_txn *txn, const struct id *file)
{
    (void)context;
    (void)txn;
    (void)file;
    return 0;
}

static uint64_t host_now_ms(void *context)
{
    const struct sim_replicas *replicas = context;
    return EPOCH_MS + (replicas->world ? sim_world_now_us(replicas->world) / SIM_US_PER_MS : 0);
}

static struct tree_host tree_host_of(struct sim_replicas *replicas)
{
    return (struct tree_host){
        .hold = hold, .release = release, .now_ms = host_now_ms, .context = replicas};
}

struct sim_replicas *sim_replicas_new(size_t slots_max, uint64_t seed)
{
    struct sim_replicas *replicas = mem_alloc(sizeof *replicas);
    random_init(&replicas->random, seed);
    replicas->sync_us_least = SYNC_US_LEAST;
    replicas->sync_us_most = SYNC_US_MOST;
    replicas->slots_max = slots_max;
    replicas->disks = mem_alloc_array(slots_max, sizeof *replicas->disks);
    replicas->running = mem_alloc_array(slots_max, sizeof(struct sim_replica *));
    return replicas;
}

void sim_replicas_free(struct sim_replicas *replicas)
{
    if (!replicas) {
        return;
    }
    for (size_t i = 0; i < replicas->slots_max; i++) {
        CHECK(!replicas->running[i]);
        replica_disk_wipe(&replicas->disks[i]);
    }
    free(replicas->disks);
    free(replicas->running);
    free(replicas);
}

void sim_replicas_observe(struct sim_replicas *replicas,
                          const struct sim_replica_observer *observer)
{
    replicas->observer = observer ? *observer : (struct sim_replica_observer){0};
}

void sim_replicas_set_sync(struct sim_replicas *replicas, uint32_t least_us, uint32_t most_us)
{
    CHECK(least_us <= most_us);
    replicas->sync_us_least = least_us;
    replicas->sync_us_most = most_us;
}

void sim_replicas_set_torn(struct sim_replicas *replicas, size_t writes_count)
{
    CHECK(writes_count < REPLICA_UNDO_MAX);
    for (size_t i = 0; i < replicas->slots_max; i++) {
        replicas->disks[i].torn_depth = writes_count;
    }
}

void sim_replicas_snapshot_disk(struct sim_replicas *replicas, uint32_t slot)
{
    CHECK(slot < replicas->slots_max);
    replica_disk_keep(&replicas->disks[slot]);
}

const struct tree *sim_replicas_read(const struct sim_replicas *replicas, uint32_t slot,
                                     struct kv_txn **ret_txn)
{
    CHECK(slot < replicas->slots_max);
    const struct replica_disk *disk = &replicas->disks[slot];
    if (!disk->kv) {
        return NULL;
    }
    *ret_txn = replica_disk_read(disk);
    return disk->tree;
}

struct sim_replica *sim_replicas_find(const struct sim_replicas *replicas, uint32_t slot)
{
    CHECK(slot < replicas->slots_max);
    return replicas->running[slot];
}

/* ---- what sync asks for ---- */

static void add_output(struct sim_replica *replica, const struct node_id *to, struct bytes bytes)
{
    struct output *output = mem_alloc(sizeof *output + bytes.size);
    output->is_broadcast = !to;
    if (to) {
        output->to = *to;
    }
    output->at_us = replica->busy_until_us;
    output->size_bytes = bytes.size;
    if (bytes.size > 0) {
        memcpy(output->data, bytes.data, bytes.size);
    }
    if (replica->outputs_last) {
        replica->outputs_last->next = output;
    } else {
        replica->outputs = output;
    }
    replica->outputs_last = output;
}

static void on_broadcast(void *context, struct bytes payload)
{
    struct sim_replica *replica = context;
    add_output(replica, NULL, payload);
}

static void on_send(void *context, const struct node_id *to, struct bytes message)
{
    add_output(context, to, message);
}

static bool on_pick(void *context, struct node_id *ret_member)
{
    struct sim_replica *replica = context;
    return replica->host.pick(replica->host.context, &replica->random, ret_member);
}

static int on_read(void *context, struct kv_txn **ret_txn)
{
    const struct sim_replica *replica = context;
    *ret_txn = replica_disk_read(replica->disk);
    return 0;
}

/* When a write that begins now is on disk: the node's time, and the world's. */
static uint64_t take_time(struct sim_replica *replica)
{
    const struct sim_replicas *all = replica->all;
    const uint64_t begin_us =
        replica->busy_until_us > replica->now_us ? replica->busy_until_us : replica->now_us;
    replica->busy_until_us =
        begin_us + all->sync_us_least +
        random_below(&replica->random, all->sync_us_most - all->sync_us_least + 1);
    replica->has_written = true;
    return sim_world_now_us(all->world) + (replica->busy_until_us - replica->now_us);
}

static int on_write(void *context, int (*job)(void *job_context, struct kv_txn *txn),
                    void *job_context)
{
    struct sim_replica *replica = context;
    struct kv_txn *txn = replica_disk_write(replica->disk, sim_world_now_us(replica->all->world));
    const int err = job(job_context, txn);
    if (err || kv_changes(txn) == 0) {
        replica_disk_not_written(replica->disk, txn);
        return err;
    }
    replica_disk_written(replica->disk, txn, take_time(replica));
    return 0;
}

static int write_spool(void *context, struct bytes bytes)
{
    buf_add(context, bytes);
    return 0;
}

static void on_spool(void *context)
{
    struct sim_replica *replica = context;
    struct spool *spool = &replica->spool;
    CHECK(!spool->is_coming);
    struct kv_txn *txn = replica_disk_read(replica->disk);
    struct tree_snapshot_info info;
    buf_clear(&spool->coming);
    spool->err = tree_snapshot_write(replica->disk->tree, txn, write_spool, &spool->coming, &info);
    spool->is_coming = true;
    spool->at_us = replica->now_us + SPOOL_US + spool->coming.size / SPOOL_BYTES_PER_US;
    kv_abort(txn);
}

static int read_buf(const struct buf *buf, uint64_t offset, void *ret_bytes, size_t size)
{
    if (offset > buf->size || size > buf->size - offset) {
        return -EIO;
    }
    if (size > 0) {
        memcpy(ret_bytes, buf->data + offset, size);
    }
    return 0;
}

static int on_spool_read(void *context, uint64_t offset, void *ret_bytes, size_t size)
{
    const struct sim_replica *replica = context;
    return read_buf(&replica->spool.bytes, offset, ret_bytes, size);
}

static void on_spool_drop(void *context)
{
    struct sim_replica *replica = context;
    buf_done(&replica->spool.bytes);
    replica->spool.bytes = BUF_INIT;
}

static void on_inbox_drop(void *context)
{
    struct replica_disk *disk = ((struct sim_replica *)context)->disk;
    buf_done(&disk->inbox);
    disk->inbox = BUF_INIT;
    disk->has_inbox = false;
}

static int on_inbox_open(void *context, const struct id *id, uint64_t *ret_bytes)
{
    struct replica_disk *disk = ((struct sim_replica *)context)->disk;
    if (!disk->has_inbox || !id_equal(&disk->inbox_id, id)) {
        on_inbox_drop(context);
        disk->inbox_id = *id;
        disk->has_inbox = true;
    }
    *ret_bytes = disk->inbox.size;
    return 0;
}

static int on_inbox_append(void *context, struct bytes bytes)
{
    struct replica_disk *disk = ((struct sim_replica *)context)->disk;
    CHECK(disk->has_inbox);
    buf_add(&disk->inbox, bytes);
    return 0;
}

static int on_inbox_read(void *context, uint64_t offset, void *ret_bytes, size_t size)
{
    const struct replica_disk *disk = ((struct sim_replica *)context)->disk;
    return read_buf(&disk->inbox, offset, ret_bytes, size);
}

static bool on_inbox_find(void *context, struct id *ret_id, uint64_t *ret_bytes)
{
    const struct replica_disk *disk = ((struct sim_replica *)context)->disk;
    if (disk->has_inbox) {
        *ret_id = disk->inbox_id;
        *ret_bytes = disk->inbox.size;
    }
    return disk->has_inbox;
}

static void on_digests(void *context, uint64_t vector, uint64_t tree)
{
    const struct sim_replica *replica = context;
    replica->host.digests(replica->host.context, vector, tree);
}

static void on_event(void *context, const struct tree_sync_event *event)
{
    const struct sim_replica *replica = context;
    const struct sim_replica_observer *observer = &replica->all->observer;
    if (observer->event) {
        observer->event(observer->context, replica->slot, event);
    }
}

/* ---- life ---- */

static void prepare_disk(struct sim_replicas *all, struct replica_disk *disk, enum sim_disk state)
{
    const struct tree_host host = tree_host_of(all);
    if (state == SIM_DISK_LOST) {
        replica_disk_wipe(disk);
    } else if (state == SIM_DISK_ROLLED_BACK) {
        replica_disk_roll_back(disk, &host);
    } else if (state == SIM_DISK_TORN && disk->kv && disk->torn_depth > 0) {
        replica_disk_tear(disk, &host, 1 + (size_t)random_below(&all->random, disk->torn_depth));
    }
    /* As a node does whenever it opens a directory. */
    struct origin_id origin;
    random_fill(&all->random, origin.bytes, sizeof origin.bytes);
    if (disk->kv) {
        replica_disk_renew(disk, &origin);
    } else {
        replica_disk_make(disk, &host, &origin, random_u64(&all->random));
    }
}

struct sim_replica *sim_replica_new(const struct sim_replica_options *options, uint64_t now_us)
{
    const struct sim_birth *birth = options->birth;
    struct sim_replicas *all = options->replicas;
    CHECK(birth->slot < all->slots_max && !all->running[birth->slot]);
    all->world = birth->world;
    struct sim_replica *replica = mem_alloc(sizeof *replica);
    replica->all = all;
    replica->slot = birth->slot;
    replica->disk = &all->disks[birth->slot];
    replica->host = options->host;
    replica->now_us = now_us;
    random_init(&replica->random, birth->random_seed);
    prepare_disk(all, replica->disk, birth->disk);
    const struct tree_sync_options sync = {
        .tree = replica->disk->tree,
        .id = options->id,
        .random_seed = random_u64(&replica->random),
        .host = {.broadcast = on_broadcast,
                 .send = on_send,
                 .pick = on_pick,
                 .read = on_read,
                 .write = on_write,
                 .spool = on_spool,
                 .spool_read = on_spool_read,
                 .spool_drop = on_spool_drop,
                 .inbox_open = on_inbox_open,
                 .inbox_append = on_inbox_append,
                 .inbox_read = on_inbox_read,
                 .inbox_find = on_inbox_find,
                 .inbox_drop = on_inbox_drop,
                 .digests = on_digests,
                 .event = on_event,
                 .context = replica},
    };
    all->running[birth->slot] = replica;
    if (all->observer.started) {
        all->observer.started(all->observer.context, birth->slot, birth->disk);
    }
    replica->sync = tree_sync_new(&sync, now_us);
    return replica;
}

void sim_replica_free(struct sim_replica *replica)
{
    struct sim_replicas *all = replica->all;
    tree_sync_free(replica->sync);
    struct input *input;
    struct input *next_input;
    LL_FOREACH_SAFE(replica->inputs, input, next_input)
    {
        free(input);
    }
    struct output *output;
    struct output *next_output;
    LL_FOREACH_SAFE(replica->outputs, output, next_output)
    {
        free(output);
    }
    buf_done(&replica->spool.bytes);
    buf_done(&replica->spool.coming);
    const struct tree_host host = tree_host_of(all);
    replica_disk_crash(replica->disk, &host, sim_world_now_us(all->world));
    all->running[replica->slot] = NULL;
    if (all->observer.ended) {
        all->observer.ended(all->observer.context, replica->slot);
    }
    free(replica);
}

/* ---- what arrives ---- */

static struct input *add_input(struct sim_replica *replica, enum input_kind kind,
                               const struct node_id *from, struct bytes bytes)
{
    struct input *input = mem_alloc(sizeof *input + bytes.size);
    input->kind = kind;
    if (from) {
        input->from = *from;
    }
    input->size_bytes = bytes.size;
    if (bytes.size > 0) {
        memcpy(input->data, bytes.data, bytes.size);
    }
    if (replica->inputs_last) {
        replica->inputs_last->next = input;
    } else {
        replica->inputs = input;
    }
    replica->inputs_last = input;
    return input;
}

void sim_replica_broadcast(struct sim_replica *replica, const struct node_id *from,
                           struct bytes payload)
{
    add_input(replica, INPUT_BROADCAST, from, payload);
}

void sim_replica_message(struct sim_replica *replica, const struct node_id *from,
                         struct bytes message)
{
    add_input(replica, INPUT_MESSAGE, from, message);
}

void sim_replica_digests(struct sim_replica *replica, const struct node_id *from,
                         const struct digests *digests)
{
    add_input(replica, INPUT_DIGESTS, from, BYTES(NULL, 0))->digests = *digests;
}

static void hand_over(struct sim_replica *replica)
{
    struct input *input = replica->inputs;
    replica->inputs = input->next;
    replica->inputs_last = input->next ? replica->inputs_last : NULL;
    const struct bytes bytes = BYTES(input->data, input->size_bytes);
    switch (input->kind) {
    case INPUT_BROADCAST:
        tree_sync_broadcast(replica->sync, replica->now_us, &input->from, bytes);
        break;
    case INPUT_MESSAGE:
        tree_sync_message(replica->sync, replica->now_us, &input->from, bytes);
        break;
    case INPUT_DIGESTS:
        tree_sync_digests(replica->sync, replica->now_us, &input->from, &input->digests);
        break;
    case INPUT_CHANGED:
        tree_sync_changed(replica->sync, replica->now_us);
        break;
    }
    free(input);
}

/* ---- time ---- */

static bool is_busy(const struct sim_replica *replica)
{
    return replica->busy_until_us > replica->now_us;
}

static void flush(struct sim_replica *replica)
{
    struct output *output;
    while ((output = replica->outputs) != NULL && output->at_us <= replica->now_us) {
        replica->outputs = output->next;
        replica->outputs_last = output->next ? replica->outputs_last : NULL;
        const struct bytes bytes = BYTES(output->data, output->size_bytes);
        if (output->is_broadcast) {
            replica->host.broadcast(replica->host.context, replica->now_us, bytes);
        } else {
            replica->host.send(replica->host.context, &output->to, bytes);
        }
        free(output);
    }
}

static void end_spool(struct sim_replica *replica)
{
    struct spool *spool = &replica->spool;
    buf_done(&spool->bytes);
    spool->bytes = spool->coming;
    spool->coming = BUF_INIT;
    spool->is_coming = false;
    struct id id;
    sha256_id(buf_bytes(&spool->bytes), &id);
    tree_sync_spooled(replica->sync, replica->now_us, spool->err, &id, spool->bytes.size);
}

static bool is_spool_due(const struct sim_replica *replica)
{
    return replica->spool.is_coming && replica->spool.at_us <= replica->now_us;
}

/* One step of the thread; false: nothing to do now. */
static bool step(struct sim_replica *replica)
{
    const struct sim_replica_observer *observer = &replica->all->observer;
    if (is_busy(replica)) {
        return false;
    }
    if (replica->has_written) {
        replica->has_written = false;
        if (observer->durable) {
            observer->durable(observer->context, replica->slot);
        }
    } else if (replica->inputs) {
        hand_over(replica);
        replica->has_taken = true;
    } else if (replica->has_taken) {
        replica->has_taken = false;
        tree_sync_apply(replica->sync, replica->now_us);
    } else if (is_spool_due(replica)) {
        end_spool(replica);
    } else if (tree_sync_next_us(replica->sync) <= replica->now_us && !replica->has_ticked) {
        replica->has_ticked = true; /* what is due again at once waits for the next call */
        tree_sync_tick(replica->sync, replica->now_us);
    } else {
        return false;
    }
    return true;
}

void sim_replica_work(struct sim_replica *replica, uint64_t now_us)
{
    replica->now_us = now_us;
    replica->has_ticked = false;
    do {
        flush(replica);
    } while (step(replica));
}

uint64_t sim_replica_next_us(const struct sim_replica *replica)
{
    if (replica->outputs) {
        return replica->outputs->at_us;
    }
    if (replica->has_written || replica->inputs || replica->has_taken) {
        return replica->busy_until_us;
    }
    uint64_t next_us = tree_sync_next_us(replica->sync);
    if (replica->spool.is_coming && replica->spool.at_us < next_us) {
        next_us = replica->spool.at_us;
    }
    return next_us > replica->busy_until_us ? next_us : replica->busy_until_us;
}

/* ---- local changes ---- */

int sim_replica_change(struct sim_replica *replica, uint64_t now_us, sim_replica_change_fn change,
                       void *context, struct dot *ret_dot)
{
    replica->now_us = now_us;
    struct replica_disk *disk = replica->disk;
    struct kv_txn *txn = replica_disk_write(disk, sim_world_now_us(replica->all->world));
    const int err = change(context, disk->tree, txn, ret_dot);
    if (err) {
        replica_disk_not_written(disk, txn);
        return err;
    }
    replica_disk_written(disk, txn, take_time(replica));
    add_input(replica, INPUT_CHANGED, NULL, BYTES(NULL, 0));
    return 0;
}

void sim_replica_expire(struct sim_replica *replica, uint64_t now_us, uint64_t age_ms)
{
    replica->now_us = now_us;
    struct replica_disk *disk = replica->disk;
    const uint64_t before_ms = host_now_ms(replica->all) - age_ms;
    bool more = true;
    while (more) {
        struct kv_txn *txn = replica_disk_write(disk, sim_world_now_us(replica->all->world));
        const int err = tree_expire(disk->tree, txn, before_ms, EXPIRE_ROWS, &more);
        CHECK(!err);
        replica_disk_written(disk, txn, take_time(replica));
    }
}

const struct tree_sync_counters *sim_replica_counters(const struct sim_replica *replica)
{
    return tree_sync_counters(replica->sync);
}
