/* SPDX-License-Identifier: Apache-2.0 */

/*
 * XML to a tree by expat. Nodes and texts live in a few large blocks, which are freed together. Character
 * data is gathered in one buffer used as a stack: a child's text lies behind its parent's and is cut off
 * when the child ends.
 */

#include "common/xml.h"

#include <expat.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define BLOCK_SIZE ((size_t) 16 * 1024)

typedef struct Block Block;
struct Block {
        Block *next;
        size_t used, size;
        _Alignas(max_align_t) char bytes[];
};

struct Xml {
        Block *blocks;
        XmlNode *root;
};

typedef struct Frame {
        XmlNode *node, *last; /* an open element and its last child so far */
        size_t text;          /* where its character data begins */
} Frame;

typedef struct Build {
        XML_Parser parser;
        Xml *xml;
        Frame frames[XML_DEPTH_MAX];
        unsigned depth, nodes;
        char *text;
        size_t n_text, allocated;
        int error;
} Build;

static void *xml_allocate(Xml *xml, size_t n) {
        Block *block = xml->blocks;
        void *p;

        n = (n + sizeof(void *) - 1) & ~(sizeof(void *) - 1);
        if (!block || block->size - block->used < n) {
                const size_t size = n > BLOCK_SIZE ? n : BLOCK_SIZE;

                block = malloc(sizeof(*block) + size);
                if (!block)
                        return NULL;
                *block = (Block){ .next = xml->blocks, .size = size };
                xml->blocks = block;
        }
        p = block->bytes + block->used;
        block->used += n;
        return p;
}

static const char *xml_copy(Xml *xml, const char *text, size_t n) {
        char *copy;

        if (n == 0)
                return "";
        copy = xml_allocate(xml, n + 1);
        if (!copy)
                return NULL;
        memcpy(copy, text, n);
        copy[n] = '\0';
        return copy;
}

static void build_fail(Build *build, int error) {
        build->error = error;
        (void) XML_StopParser(build->parser, XML_FALSE);
}

static void on_start(void *userdata, const XML_Char *name, const XML_Char **attributes) {
        Build *build = userdata;
        Frame *parent = build->depth > 0 ? &build->frames[build->depth - 1] : NULL;
        const char *colon = strrchr(name, ':');
        XmlNode *node;

        (void) attributes;
        if (build->error < 0)
                return;
        if (build->depth == XML_DEPTH_MAX || build->nodes == XML_NODES_MAX) {
                build_fail(build, -EBADMSG);
                return;
        }
        if (colon)
                name = colon + 1;
        node = xml_allocate(build->xml, sizeof(*node));
        if (node)
                *node = (XmlNode){ .name = xml_copy(build->xml, name, strlen(name)), .text = "" };
        if (!node || !node->name) {
                build_fail(build, -ENOMEM);
                return;
        }
        if (!parent)
                build->xml->root = node;
        else if (parent->last)
                parent->last->next = node;
        else
                parent->node->children = node;
        if (parent)
                parent->last = node;
        build->nodes++;
        build->frames[build->depth++] = (Frame){ .node = node, .text = build->n_text };
}

static bool is_blank(char c) {
        return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static void on_end(void *userdata, const XML_Char *name) {
        Build *build = userdata;
        const Frame *frame;
        const char *start, *end;

        (void) name;
        if (build->error < 0)
                return;
        frame = &build->frames[--build->depth];
        if (build->n_text == frame->text)
                return;
        start = build->text + frame->text;
        end = build->text + build->n_text;
        while (start < end && is_blank(*start))
                start++;
        while (start < end && is_blank(end[-1]))
                end--;
        frame->node->text = xml_copy(build->xml, start, (size_t) (end - start));
        build->n_text = frame->text;
        if (!frame->node->text)
                build_fail(build, -ENOMEM);
}

static void on_text(void *userdata, const XML_Char *text, int n) {
        Build *build = userdata;
        const size_t wanted = build->n_text + (size_t) n;

        if (build->error < 0)
                return;
        if (wanted > build->allocated) {
                const size_t size = wanted < 512 ? 1024 : wanted * 2;
                char *grown = realloc(build->text, size);

                if (!grown) {
                        build_fail(build, -ENOMEM);
                        return;
                }
                build->text = grown;
                build->allocated = size;
        }
        memcpy(build->text + build->n_text, text, (size_t) n);
        build->n_text = wanted;
}

static void on_doctype(void *userdata, const XML_Char *name, const XML_Char *system_id,
        const XML_Char *public_id, int has_subset) {
        (void) name, (void) system_id, (void) public_id, (void) has_subset;
        build_fail(userdata, -EBADMSG);
}

static int build_run(Build *build, const char *text, size_t n) {
        if (n > INT_MAX)
                return -EBADMSG;
        XML_SetUserData(build->parser, build);
        XML_SetElementHandler(build->parser, on_start, on_end);
        XML_SetCharacterDataHandler(build->parser, on_text);
        XML_SetStartDoctypeDeclHandler(build->parser, on_doctype);
        if (XML_Parse(build->parser, text, (int) n, XML_TRUE) == XML_STATUS_OK)
                return 0;
        if (build->error < 0)
                return build->error;
        return XML_GetErrorCode(build->parser) == XML_ERROR_NO_MEMORY ? -ENOMEM : -EBADMSG;
}

int xml_parse(const char *text, size_t n, Xml **ret) {
        _cleanup_(xml_freep) Xml *xml = NULL;
        Build build = {};
        int r;

        xml = calloc(1, sizeof(*xml));
        if (!xml)
                return -ENOMEM;
        build.xml = xml;
        build.parser = XML_ParserCreate(NULL);
        if (!build.parser)
                return -ENOMEM;
        r = build_run(&build, text, n);
        XML_ParserFree(build.parser);
        free(build.text);
        if (r < 0)
                return r;

        *ret = steal_ptr(xml);
        return 0;
}

Xml *xml_free(Xml *xml) {
        if (!xml)
                return NULL;
        while (xml->blocks) {
                Block *next = xml->blocks->next;

                free(xml->blocks);
                xml->blocks = next;
        }
        free(xml);
        return NULL;
}

const XmlNode *xml_root(const Xml *xml) {
        return xml->root;
}

static const XmlNode *find_sibling(const XmlNode *node, const char *name, size_t n) {
        for (; node; node = node->next)
                if (strncmp(node->name, name, n) == 0 && node->name[n] == '\0')
                        return node;
        return NULL;
}

const XmlNode *xml_child(const XmlNode *node, const char *name) {
        return node ? find_sibling(node->children, name, strlen(name)) : NULL;
}

const XmlNode *xml_next(const XmlNode *node, const char *name) {
        return node ? find_sibling(node->next, name, strlen(name)) : NULL;
}

const XmlNode *xml_find(const XmlNode *node, const char *path) {
        while (node && *path) {
                const size_t n = strcspn(path, "/");

                node = find_sibling(node->children, path, n);
                path += n;
                path += *path == '/';
        }
        return node;
}

const char *xml_text(const XmlNode *node, const char *path) {
        node = xml_find(node, path);
        return node ? node->text : NULL;
}
