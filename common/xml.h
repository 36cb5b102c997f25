/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * AWS's XML answers as a small read-only tree, built with expat. Document type declarations are refused (no entity
 * bombs), and so are documents that are too deep or hold too many elements. Namespaces and attributes are dropped.
 */

#include <stddef.h>

#include "common/cleanup.h"

#define XML_DEPTH_MAX 32
#define XML_NODES_MAX 100000

typedef struct XmlNode XmlNode;
struct XmlNode {
        const char *name;  /* local name, without a prefix */
        const char *text;  /* character data of this element itself, trimmed; "" if none */
        XmlNode *children; /* first child */
        XmlNode *next;     /* next sibling */
};

typedef struct Xml Xml; /* owns the nodes and their texts */

/**
 * xml_parse() - read one whole document
 *
 * Return: 0; -EBADMSG if it is not well-formed, has a DTD, or is over the limits; -ENOMEM.
 */
int xml_parse(const char *text, size_t n, Xml **ret);
Xml *xml_free(Xml *xml);
DEFINE_CLEANUP(Xml, xml_free)

const XmlNode *xml_root(const Xml *xml);
/** xml_child() - first child of @node of that name; NULL if there is none or @node is NULL */
const XmlNode *xml_child(const XmlNode *node, const char *name);
/** xml_find() - follow @path of names with '/' between them from @node (its children first); NULL if any is missing */
const XmlNode *xml_find(const XmlNode *node, const char *path);
/** xml_text() - text of xml_find(); NULL if it is missing */
const char *xml_text(const XmlNode *node, const char *path);
/** xml_for_each() - run over the children of @list that are called @name; @list may be NULL */
#define xml_for_each(node, list, child_name)                                                                \
        for (const XmlNode *node = xml_child((list), (child_name)); node;                                   \
                node = xml_next(node, (child_name)))
const XmlNode *xml_next(const XmlNode *node, const char *name);
