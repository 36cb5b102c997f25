/* SPDX-License-Identifier: Apache-2.0 */

/* XML answers. A tree that comes out is within its limits and whole. */

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "common/xml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static size_t walk(const XmlNode *node, unsigned depth) {
        size_t count = 1;

        assert(depth < XML_DEPTH_MAX);
        assert(node->name && node->text);
        for (const XmlNode *child = node->children; child; child = child->next)
                count += walk(child, depth + 1);
        return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        _cleanup_(xml_freep) Xml *xml = NULL;
        int r;

        r = xml_parse((const char *) data, n, &xml);
        assert(r == 0 || r == -EBADMSG);
        if (r < 0) {
                assert(!xml);
                return 0;
        }
        assert(walk(xml_root(xml), 0) <= XML_NODES_MAX);
        (void) xml_text(xml_root(xml), "Error/Code");
        xml_for_each(member, xml_root(xml), "member")(void) xml_text(member, "a/b");
        return 0;
}
