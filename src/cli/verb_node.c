/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "http/server.h"
#include "node/followers.h"
#include "node/network.h"
#include "node/node.h"
#include "node/resolve.h"
#include "node/seeds.h"
#include "tree/sync.h"
#include "wire/member.h"

#define LISTEN_DEFAULT "127.0.0.1:7420"
/* As fast as a tenth of a slow disk: everything is read once in a while, nobody notices. */
#define SCRUB_RATE_DEFAULT "8M"
/* Files besides connections: segments, the index, sockets. */
#define FILES_EXTRA 2048u
#define TIMEOUT_S_MAX 86400
/* A free port for UDP may be taken for TCP; then another one is tried. */
#define PORT_TRIES 32

/* Why the node ends, told by the thread that finds out. */
struct ending {
    _Atomic int why;      /* enum network_end; 0: somebody sent a signal */
    struct address other; /* NETWORK_CONFLICT; written before `why` */
};

/* All that a node is made of, and what it is made from. */
struct setup {
    const struct invocation *invocation;
    struct node_options node_options;
    struct network_options network_options;
    struct server_options server_options;
    char listen[ADDRESS_TEXT_CHARS + 1]; /* in numbers, with the port for UDP */
    struct ending ending;
    struct node *node;
    struct network *network;
    struct server *server;
    struct followers *followers;
};

/* Each open connection is a file; more is asked for as far as the system lets us. Gives how many
 * connections there is room for, at most those wanted. */
static unsigned raise_file_limit(unsigned connections_max)
{
    struct rlimit limit;
    const rlim_t wanted = connections_max + FILES_EXTRA;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= wanted) {
        return connections_max;
    }
    /* Root may; for others this fails and the hard limit stays. */
    const struct rlimit raised = {wanted, limit.rlim_max < wanted ? wanted : limit.rlim_max};
    if (setrlimit(RLIMIT_NOFILE, &raised) == 0) {
        return connections_max;
    }
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    /* The store needs its files more than one more connection does. */
    const rlim_t room =
        limit.rlim_cur > 2 * FILES_EXTRA ? limit.rlim_cur - FILES_EXTRA : limit.rlim_cur / 2;
    log_warn("few_files", KV("limit", (uint64_t)limit.rlim_cur), KV("connections", (uint64_t)room));
    return (unsigned)room;
}

static bool read_seconds(const struct config *config, const char *name, unsigned *ret_ms)
{
    uint64_t seconds = 0;
    if (config_number(config, name, TIMEOUT_S_MAX, &seconds) || seconds == 0) {
        return false;
    }
    *ret_ms = (unsigned)seconds * 1000;
    return true;
}

static bool read_times(const struct invocation *invocation, struct server_options *server)
{
    const struct config *config = invocation->config;
    if (!read_seconds(config, "header-timeout", &server->header_ms) ||
        !read_seconds(config, "body-timeout", &server->body_ms) ||
        !read_seconds(config, "idle-timeout", &server->idle_ms)) {
        cli_usage(invocation, "a time-out is a number of seconds, 1 to %d", TIMEOUT_S_MAX);
        return false;
    }
    return true;
}

/* True if other nodes would take `text`, or if it was not given; else it has told why not. */
static bool is_member_name(const struct invocation *invocation, const char *what, const char *text)
{
    const int err = text ? member_name_check(bytes_of_string(text)) : 0;
    if (err == -ENAMETOOLONG) {
        cli_usage(invocation, "the %s is longer than %u bytes", what, MEMBER_NAME_BYTES_MAX);
    } else if (err == -EILSEQ) {
        cli_usage(invocation, "the %s is not UTF-8", what);
    } else if (err) {
        cli_usage(invocation, "the %s is empty or has control characters", what);
    }
    return err == 0;
}

static bool read_node_options(const struct invocation *invocation, struct node_options *node)
{
    const struct config *config = invocation->config;
    *node = (struct node_options){
        .data = config_string(config, "data"),
        .name = config_string(config, "name"),
        .zone = config_string(config, "zone"),
    };
    if (!node->data) {
        cli_usage(invocation, "no data directory: give --data DIR or set ARTEL_DATA");
        return false;
    }
    node->segment_bytes = cli_segment_bytes(invocation);
    if (!is_member_name(invocation, "name", node->name) ||
        !is_member_name(invocation, "zone", node->zone)) {
        return false;
    }
    if (config_bytes(config, "scrub-rate", &node->scrub_bytes_per_second)) {
        cli_usage(invocation, "--scrub-rate makes no sense");
        return false;
    }
    return true;
}

static bool read_rate(const struct invocation *invocation, const char *name, uint64_t *ret_rate)
{
    const int err = config_bytes(invocation->config, name, ret_rate);
    if (err || (*ret_rate > 0 && *ret_rate < NETWORK_RATE_MIN) || *ret_rate > NETWORK_RATE_MAX) {
        cli_usage(invocation, "--%s is a number of bytes a second, 64K to 1T, or 0: no limit",
                  name);
        return false;
    }
    return true;
}

/* Only this machine can be trusted as long as a node does not ask who speaks. */
static bool check_listen(const struct invocation *invocation, const struct address *listen)
{
    if (!address_is_loopback(listen) && !config_switch(invocation->config, "insecure")) {
        cli_usage(invocation,
                  "%s is not on this machine's loopback; a node asks nobody who they are, so this "
                  "needs --insecure",
                  config_string(invocation->config, "listen"));
        return false;
    }
    return true;
}

static bool read_network_options(const struct invocation *invocation,
                                 struct network_options *network)
{
    const struct config *config = invocation->config;
    const char *listen = config_string(config, "listen");
    const char *advertise = config_string(config, "advertise");
    *network = (struct network_options){.join = config_string(config, "join")};
    if (resolve_now(listen, &network->listen)) {
        cli_usage(invocation, "%s: no ADDRESS:PORT to listen at", listen);
        return false;
    }
    if (advertise && (resolve_now(advertise, &network->advertise) || network->advertise.port == 0 ||
                      address_is_any(&network->advertise))) {
        cli_usage(invocation, "%s: no ADDRESS:PORT that others could reach", advertise);
        return false;
    }
    if (network->join && !seeds_check(network->join)) {
        cli_usage(invocation, "--join takes HOST:PORT[,HOST:PORT...], at most %u of them",
                  CLUSTER_SEEDS_MAX);
        return false;
    }
    if (config_bytes(config, "cache-bytes", &network->cache_bytes)) {
        cli_usage(invocation, "--cache-bytes is a number of bytes, as 10G, or 0: no limit");
        return false;
    }
    return read_rate(invocation, "download-rate", &network->download_rate) &&
           read_rate(invocation, "upload-rate", &network->upload_rate) &&
           check_listen(invocation, &network->listen);
}

static bool read_options(struct setup *setup)
{
    const struct invocation *invocation = setup->invocation;
    uint64_t connections = 0;
    setup->server_options.version = ARTEL_VERSION;
    if (!read_node_options(invocation, &setup->node_options) ||
        !read_times(invocation, &setup->server_options) ||
        !read_network_options(invocation, &setup->network_options)) {
        return false;
    }
    if (config_number(invocation->config, "max-connections", 1000000, &connections) ||
        connections == 0) {
        cli_usage(invocation, "--max-connections makes no sense");
        return false;
    }
    setup->server_options.connections_max = (unsigned)connections;
    uint64_t ack_count = 0;
    if (config_number(invocation->config, "ack", TREE_SYNC_AWAIT_MAX, &ack_count)) {
        cli_usage(invocation, "--ack takes a number of nodes up to %u", TREE_SYNC_AWAIT_MAX);
        return false;
    }
    setup->server_options.ack_count = (unsigned)ack_count;
    return true;
}

static void explain(const struct invocation *invocation, const char *what, const char *detail,
                    int err)
{
    if (err == -EBUSY && strcmp(what, "data") == 0) {
        cli_error(invocation, "%s is in use by process %ld", detail, store_owner(detail));
    } else if (err == -EPROTONOSUPPORT) {
        cli_error(invocation, "%s has format %u; this artel reads and writes format %u", detail,
                  store_format_found(detail), STORE_FORMAT);
    } else if (err == -ENOTEMPTY) {
        cli_error(invocation, "%s holds something that is not an artel store", detail);
    } else if (err == -EBUSY) {
        cli_error(invocation, "%s: somebody else listens there", detail);
    } else if (err == -ENOENT && strcmp(what, "listen") == 0) {
        cli_error(invocation,
                  "%s: no address of this machine that others could reach; give --advertise "
                  "ADDRESS:PORT",
                  detail);
    } else if (err == -EINVAL && strcmp(what, "listen") == 0) {
        cli_error(invocation, "%s: no address of this machine", detail);
    } else {
        cli_error(invocation, "%s: %s", detail, err_text(err));
    }
}

/* On the core thread. */
static void on_ended(void *context, enum network_end why, const struct address *other)
{
    struct ending *ending = context;
    if (other) {
        ending->other = *other;
    }
    ending->why = (int)why;
    kill(getpid(), SIGTERM); /* all threads leave it to the main thread's sigwait() */
}

static void accept_link(void *context, int fd)
{
    network_accept(context, fd);
}

/* Network and server, on the same port. */
static int listen_once(struct setup *setup)
{
    int err = network_open(setup->node, &setup->network_options, &setup->network);
    if (err) {
        return err;
    }
    const struct address address = network_address(setup->network);
    address_format(&address, setup->listen);
    setup->server_options.listen = setup->listen;
    setup->server_options.network = setup->network;
    setup->server_options.accept_link = accept_link;
    setup->server_options.link_context = setup->network;
    err = server_start(setup->node, &setup->server_options, &setup->server);
    if (err) {
        network_close(setup->network);
        setup->network = NULL;
        return err;
    }
    network_start(setup->network);
    return 0;
}

static int listen_all(struct setup *setup)
{
    setup->network_options.ended = on_ended;
    setup->network_options.context = &setup->ending;
    const bool is_any_port = setup->network_options.listen.port == 0;
    int err = listen_once(setup);
    for (int i = 1; err == -EBUSY && is_any_port && i < PORT_TRIES; i++) {
        err = listen_once(setup);
    }
    return err;
}

/* Until a signal comes, or the network says that this is the end. */
static enum cli_status wait_for_end(struct setup *setup, const sigset_t *signals)
{
    int signal_number = 0;
    sigwait(signals, &signal_number);
    const int why = setup->ending.why;
    if (why == NETWORK_CONFLICT) {
        char other[ADDRESS_TEXT_CHARS + 1];
        address_format(&setup->ending.other, other);
        cli_error(setup->invocation,
                  "%s has the identity of another node, which runs at %s; a data directory "
                  "belongs to one node: give this one a directory of its own",
                  setup->node_options.data, other);
        return CLI_FAILED;
    }
    log_info("node_stopping", KV("signal", why                       ? "left"
                                           : signal_number == SIGINT ? "INT"
                                                                     : "TERM"));
    return CLI_OK;
}

static enum cli_status serve(struct setup *setup, const sigset_t *signals)
{
    const struct invocation *invocation = setup->invocation;
    const int err = listen_all(setup);
    if (err) {
        explain(invocation, "listen", config_string(invocation->config, "listen"), err);
        return CLI_FAILED;
    }
    printf("ready http://%s\n", server_address(setup->server));
    fflush(stdout);
    followers_start(setup->followers);
    log_info("node_ready", KV("address", server_address(setup->server)),
             KV("data", node_data(setup->node)), KV("name", node_name(setup->node)),
             KV("connections_max", setup->server_options.connections_max));
    const enum cli_status status = wait_for_end(setup, signals);
    followers_stop(setup->followers);
    network_leave_wait(setup->network, MEMBER_UNREACHABLE);
    server_stop(setup->server);
    network_close(setup->network);
    return status;
}

/* What `follow` says; or it has told why that makes no sense. */
static bool read_followers(struct setup *setup)
{
    const struct invocation *invocation = setup->invocation;
    const char *lines = config_string(invocation->config, "follow");
    size_t line = 0;
    CLEANUP_FREE char *absolute = realpath(setup->node_options.data, NULL);
    CLEANUP_FREE char *socket_path =
        mem_format("%s/socket", absolute ? absolute : setup->node_options.data);
    if (followers_new(lines, socket_path, &line, &setup->followers)) {
        cli_usage(invocation,
                  "follow number %zu makes no sense, or is one too many (%u): it is "
                  "PATTERN -> /DIR [keep NUMBER] [exec COMMAND]",
                  line, FOLLOWERS_MAX);
        return false;
    }
    setup->server_options.followers = setup->followers;
    setup->network_options.followers = setup->followers;
    return true;
}

static enum cli_status run_node(const struct invocation *invocation)
{
    struct setup setup = {.invocation = invocation};
    if (!read_options(&setup)) {
        return CLI_USAGE;
    }
    setup.server_options.connections_max = raise_file_limit(setup.server_options.connections_max);
    /* Before any thread: all of them leave these signals to sigwait(). */
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    const int err = node_open(&setup.node_options, &setup.node);
    if (err) {
        explain(invocation, "data", setup.node_options.data, err);
        return CLI_FAILED;
    }
    if (!read_followers(&setup)) {
        node_close(setup.node);
        return CLI_USAGE;
    }
    const enum cli_status status = serve(&setup, &signals);
    followers_free(setup.followers);
    node_close(setup.node);
    return status;
}

static const struct config_key keys[] = {
    {"data", NULL, "DIR: the data directory", false},
    {"listen", LISTEN_DEFAULT, "ADDRESS:PORT: where to serve", false},
    {"join", NULL, "HOST:PORT[,HOST:PORT...]: members of the network to join", false},
    {"advertise", NULL, "ADDRESS:PORT: where others reach this node, if not where it listens",
     false},
    {"name", NULL, "NAME: for people, the host's name unless given", false},
    {"zone", NULL, "ZONE: where this machine stands", false},
    {"insecure", NULL, "listen beyond this machine although nobody is asked who they are", true},
    {"scrub-rate", SCRUB_RATE_DEFAULT, "BYTES: a second of the scrub in the background; 0: none",
     false},
    {"download-rate", "0", "RATE: bytes a second of content from other nodes, as 10M; 0: no limit",
     false},
    {"upload-rate", "0", "RATE: bytes a second of content for other nodes, as 10M; 0: no limit",
     false},
    {"cache-bytes", "0",
     "BYTES: of content that was only read here, above which it makes room; 0: no limit", false},
    CLI_KEY_SEGMENT_BYTES,
    {"max-connections", "24000", "NUMBER: of open connections", false},
    {"header-timeout", "15", "SECONDS: for the line and headers of a request", false},
    {"body-timeout", "30", "SECONDS: in each of which 8 KiB of a body have to come", false},
    {"idle-timeout", "300", "SECONDS: without a byte, then a connection is closed", false},
    {"ack", "0", "NUMBER: of other nodes that shall have a change first, if it names none", false},
    {"follow", NULL,
     "PATTERN -> DIR [keep NUMBER] [exec COMMAND]: as `artel follow`; several times", false},
    {"config", NULL, "FILE: read settings from it", false},
    {"log-level", "info", "LEVEL: debug, info, warn, error or off", false},
};

const struct verb verb_node = {
    .name = "node",
    .summary = "run a node",
    .synopsis = "--data DIR [--listen ADDRESS:PORT] [--join HOST:PORT[,...]] [--zone ZONE]",
    .about =
        "Runs in the foreground and logs to standard error. When it serves, it prints one\n"
        "line `ready http://ADDRESS:PORT`; SIGTERM or SIGINT ends it cleanly. The same is\n"
        "served on the Unix socket DIR/socket.\n\n"
        "With --join it becomes a member of the network of those named; any of them will do,\n"
        "and names are looked up until one answers. It remembers the members that it has\n"
        "met, so a restart needs no --join. The port is used for TCP and UDP.\n\n"
        "With `follow = index/** -> /srv/index keep 2 exec systemctl reload search` in its\n"
        "file of settings (or --follow; several of them) it starts an `artel follow` for\n"
        "each, starts it again if it ends, and ends it with itself; `artel status` tells how\n"
        "they are. The command goes to the end of the line, or to a blank and `;`.\n\n"
        "Content that was read here stays as cache. With --cache-bytes the least recently used\n"
        "of it makes room, also when the disk is full, but only what another node has and\n"
        "promises to keep: there may be more of what nobody else has.\n",
    .keys = keys,
    .keys_count = ARRAY_SIZE(keys),
    .list_key = "follow",
    .run = run_node,
};
