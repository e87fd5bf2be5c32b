/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/connect.h"

struct client *connect_node(const struct invocation *invocation)
{
    const char *address = config_string(invocation->config, "node");
    struct client *client = client_new(address);
    if (!client) {
        cli_usage(invocation, "'%s' is no address of a node: give http://HOST:PORT or unix:/SOCKET",
                  address);
    }
    return client;
}

void connect_report(const struct invocation *invocation, const char *about,
                    const struct client_response *response)
{
    const char *failure = buf_string(&response->failure);
    if (about && !response->no_node) {
        cli_error(invocation, "%s: %s", about, failure);
    } else {
        cli_error(invocation, "%s", failure);
    }
}
