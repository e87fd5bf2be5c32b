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
#include "node/node.h"
#include "wire/member.h"

#define LISTEN_DEFAULT "127.0.0.1:7420"
/* As fast as a tenth of a slow disk: everything is read once in a while, nobody notices. */
#define SCRUB_RATE_DEFAULT "8M"
/* Files besides connections: segments, the index, sockets. */
#define FILES_EXTRA 2048u
#define TIMEOUT_S_MAX 86400

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

/* Only this machine can be trusted as long as a node does not ask who speaks. */
static bool is_loopback(const char *address)
{
    return strncmp(address, "127.", 4) == 0 || strncmp(address, "[::1]:", 6) == 0 ||
           strncmp(address, "localhost:", 10) == 0;
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

static bool read_options(const struct invocation *invocation, struct node_options *node,
                         struct server_options *server)
{
    const struct config *config = invocation->config;
    uint64_t connections = 0;
    *node = (struct node_options){
        .data = config_string(config, "data"),
        .name = config_string(config, "name"),
        .zone = config_string(config, "zone"),
    };
    *server = (struct server_options){
        .listen = config_string(config, "listen"),
        .version = ARTEL_VERSION,
    };
    if (!node->data) {
        cli_usage(invocation, "no data directory: give --data DIR or set ARTEL_DATA");
        return false;
    }
    node->segment_bytes = cli_segment_bytes(invocation);
    if (config_bytes(config, "scrub-rate", &node->scrub_bytes_per_second) ||
        config_number(config, "max-connections", 1000000, &connections) || connections == 0) {
        cli_usage(invocation, "--scrub-rate or --max-connections makes no sense");
        return false;
    }
    if (!read_seconds(config, "header-timeout", &server->header_ms) ||
        !read_seconds(config, "body-timeout", &server->body_ms) ||
        !read_seconds(config, "idle-timeout", &server->idle_ms)) {
        cli_usage(invocation, "a time-out is a number of seconds, 1 to %d", TIMEOUT_S_MAX);
        return false;
    }
    if (!is_member_name(invocation, "name", node->name) ||
        !is_member_name(invocation, "zone", node->zone)) {
        return false;
    }
    if (!is_loopback(server->listen) && !config_switch(config, "insecure")) {
        cli_usage(invocation,
                  "%s is not on this machine's loopback; a node asks nobody who they are, so this "
                  "needs --insecure",
                  server->listen);
        return false;
    }
    server->connections_max = (unsigned)connections;
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
    } else {
        cli_error(invocation, "%s: %s", detail, err_text(err));
    }
}

static enum cli_status serve(const struct invocation *invocation, struct node *node,
                             const struct server_options *options, const sigset_t *signals)
{
    struct server *server = NULL;
    const int err = server_start(node, options, &server);
    if (err) {
        explain(invocation, "listen", options->listen, err);
        return CLI_FAILED;
    }
    printf("ready http://%s\n", server_address(server));
    fflush(stdout);
    log_info("node_ready", KV("address", server_address(server)), KV("data", node_data(node)),
             KV("name", node_name(node)), KV("connections_max", options->connections_max));
    int signal_number = 0;
    sigwait(signals, &signal_number);
    log_info("node_stopping", KV("signal", signal_number));
    server_stop(server);
    return CLI_OK;
}

static enum cli_status run_node(const struct invocation *invocation)
{
    struct node_options node_options;
    struct server_options server_options;
    if (!read_options(invocation, &node_options, &server_options)) {
        return CLI_USAGE;
    }
    server_options.connections_max = raise_file_limit(server_options.connections_max);
    /* Before any thread: all of them leave these signals to sigwait(). */
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    struct node *node = NULL;
    const int err = node_open(&node_options, &node);
    if (err) {
        explain(invocation, "data", node_options.data, err);
        return CLI_FAILED;
    }
    const enum cli_status status = serve(invocation, node, &server_options, &signals);
    node_close(node);
    return status;
}

static const struct config_key keys[] = {
    {"data", NULL, "DIR: the data directory", false},
    {"listen", LISTEN_DEFAULT, "ADDRESS:PORT: where to serve", false},
    {"name", NULL, "NAME: for people, the host's name unless given", false},
    {"zone", NULL, "ZONE: where this machine stands", false},
    {"insecure", NULL, "listen beyond this machine although nobody is asked who they are", true},
    {"scrub-rate", SCRUB_RATE_DEFAULT, "BYTES: a second of the scrub in the background; 0: none",
     false},
    CLI_KEY_SEGMENT_BYTES,
    {"max-connections", "24000", "NUMBER: of open connections", false},
    {"header-timeout", "15", "SECONDS: for the line and headers of a request", false},
    {"body-timeout", "30", "SECONDS: in each of which 8 KiB of a body have to come", false},
    {"idle-timeout", "300", "SECONDS: without a byte, then a connection is closed", false},
    {"config", NULL, "FILE: read settings from it", false},
    {"log-level", "info", "LEVEL: debug, info, warn, error or off", false},
};

const struct verb verb_node = {
    .name = "node",
    .summary = "run a node",
    .synopsis = "--data DIR [--listen ADDRESS:PORT] [--name NAME] [--zone ZONE]",
    .about = "Runs in the foreground and logs to standard error. When it serves, it prints one\n"
             "line `ready http://ADDRESS:PORT`; SIGTERM or SIGINT ends it cleanly. The same is\n"
             "served on the Unix socket DIR/socket.\n",
    .keys = keys,
    .keys_count = ARRAY_SIZE(keys),
    .run = run_node,
};
