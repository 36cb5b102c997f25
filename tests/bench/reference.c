/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the libraries alone cost: libcurl, OpenSSL, libsystemd and expat initialised, a CA bundle loaded, one HTTPS request
 * made, and then nothing. "run" measures the daemon beside it: what is above this is ours.
 *
 *     reference URL CA-BUNDLE        prints "ready" and waits for the end of standard input
 */

#include <curl/curl.h>
#include <expat.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <systemd/sd-event.h>
#include <unistd.h>

static size_t swallow(char *data, size_t size, size_t n, void *userdata) {
        (void) data;
        (void) userdata;
        return size * n;
}

/* The bundle is parsed once and kept, as by a program that makes more than one request. */
static CURLcode use_store(CURL *easy, void *context, void *store) {
        (void) easy;
        SSL_CTX_set1_cert_store(context, store);
        return CURLE_OK;
}

static int ask(CURL *easy, const char *url, X509_STORE *store) {
        char error[CURL_ERROR_SIZE] = "";
        CURLcode code;

        (void) curl_easy_setopt(easy, CURLOPT_URL, url);
        (void) curl_easy_setopt(easy, CURLOPT_CAINFO, NULL);
        (void) curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
        (void) curl_easy_setopt(easy, CURLOPT_SSL_CTX_FUNCTION, use_store);
        (void) curl_easy_setopt(easy, CURLOPT_SSL_CTX_DATA, store);
        (void) curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, swallow);
        (void) curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, error);
        (void) curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
        (void) curl_easy_setopt(easy, CURLOPT_TIMEOUT, 20L);
        code = curl_easy_perform(easy);
        if (code != CURLE_OK)
                (void) fprintf(
                        stderr, "reference: %s: %s\n", url, *error ? error : curl_easy_strerror(code));
        return code == CURLE_OK ? 0 : -1;
}

int main(int argc, char **argv) {
        sd_event *event = NULL;
        X509_STORE *store;
        XML_Parser parser;
        CURL *easy;
        char byte;

        if (argc != 3 || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || sd_event_new(&event) < 0)
                return 2;
        (void) sd_event_run(event, 0);
        parser = XML_ParserCreate(NULL);
        if (!parser || XML_Parse(parser, "<a/>", 4, 1) != XML_STATUS_OK)
                return 1;
        XML_ParserFree(parser);
        store = X509_STORE_new();
        if (!store || X509_STORE_load_locations(store, argv[2], NULL) != 1)
                return 1;
        easy = curl_easy_init();
        if (!easy || ask(easy, argv[1], store) < 0)
                return 1;

        (void) puts("ready");
        (void) fflush(stdout);
        return read(STDIN_FILENO, &byte, 1) < 0;
}
