/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct CliTable {
    guint columns;
    GPtrArray *cells; /* header first */
};

struct CliPairs {
    GPtrArray *cells; /* key, value, key, value ... */
};

/* Spaces for all control characters of @text but @kept, C1 (U+0080 to U+009F) included. */
static void blank_controls(char *text, char kept)
{
    for (char *p = text; *p; p = g_utf8_next_char(p)) {
        if (*p != kept && g_unichar_iscntrl(g_utf8_get_char(p)))
            memset(p, ' ', (size_t)(g_utf8_next_char(p) - p));
    }
}

char *cli_clean(const char *text)
{
    char *copy = g_utf8_make_valid(text ? text : "", -1);

    blank_controls(copy, '\0');
    return copy;
}

void cli_error(const char *format, ...)
{
    va_list args;
    g_autofree char *text = NULL;
    g_autofree char *valid = NULL;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    valid = g_utf8_make_valid(text, -1);
    blank_controls(valid, '\n');
    fflush(stdout);
    fprintf(stderr, _("error: %s\n"), valid);
}

void cli_extra(const Cli *cli, const char *format, ...)
{
    va_list args;

    if (cli->quiet)
        return;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
}

void cli_print_json(JsonObject *object)
{
    g_autofree char *text = colo_json_to_string(object);

    puts(text);
}

int cli_display_width(const char *text)
{
    int width = 0;

    if (!g_utf8_validate(text, -1, NULL))
        return (int)strlen(text);
    for (const char *p = text; *p; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);

        if (!g_unichar_iszerowidth(c))
            width += g_unichar_iswide(c) ? 2 : 1;
    }
    return width;
}

static void add_cells(CliTable *table, const char *first, va_list args)
{
    for (const char *cell = first; cell; cell = va_arg(args, const char *))
        g_ptr_array_add(table->cells, cli_clean(*cell ? cell : "-"));
}

CliTable *cli_table_new(const char *first, ...)
{
    CliTable *table = g_new0(CliTable, 1);
    va_list args;

    table->cells = g_ptr_array_new_with_free_func(g_free);
    va_start(args, first);
    add_cells(table, first, args);
    va_end(args);
    table->columns = table->cells->len;
    return table;
}

void cli_table_add(CliTable *table, const char *first, ...)
{
    va_list args;

    va_start(args, first);
    add_cells(table, first, args);
    va_end(args);
    g_assert(table->cells->len % table->columns == 0);
}

/* As vshTablePrint() of libvirt: a space before, three between, a line under the header. */
void cli_table_print(const Cli *cli, CliTable *table)
{
    g_autofree int *widths = g_new0(int, table->columns);
    guint first = cli->quiet ? table->columns : 0; /* without the header */
    int line = 0;

    for (guint i = first; i < table->cells->len; i++) {
        int width = cli_display_width(g_ptr_array_index(table->cells, i));

        widths[i % table->columns] = MAX(widths[i % table->columns], width);
    }
    for (guint c = 0; c < table->columns; c++)
        line += widths[c] + 3;
    for (guint i = first; i < table->cells->len; i++) {
        const char *cell = g_ptr_array_index(table->cells, i);
        guint c = i % table->columns;
        gboolean last = c + 1 == table->columns;

        printf(" %s", cell);
        if (!last)
            printf("%*s", widths[c] - cli_display_width(cell) + 2, "");
        else
            printf("\n");
        if (last && i + 1 == table->columns) {
            for (int n = 0; n < line; n++)
                putchar('-');
            putchar('\n');
        }
    }
    putchar('\n');
    g_ptr_array_unref(table->cells);
    g_free(table);
}

CliPairs *cli_pairs_new(void)
{
    CliPairs *pairs = g_new0(CliPairs, 1);

    pairs->cells = g_ptr_array_new_with_free_func(g_free);
    return pairs;
}

void cli_pairs_add(CliPairs *pairs, const char *key, const char *format, ...)
{
    va_list args;
    g_autofree char *value = NULL;

    va_start(args, format);
    value = g_strdup_vprintf(format, args);
    va_end(args);
    if (!*value)
        return;
    g_ptr_array_add(pairs->cells, g_strdup(key));
    g_ptr_array_add(pairs->cells, cli_clean(value));
}

void cli_pairs_print(CliPairs *pairs)
{
    int width = 0;

    for (guint i = 0; i < pairs->cells->len; i += 2)
        width = MAX(width, cli_display_width(g_ptr_array_index(pairs->cells, i)));
    for (guint i = 0; i < pairs->cells->len; i += 2) {
        const char *key = g_ptr_array_index(pairs->cells, i);

        printf("%s:%*s %s\n", key, width - cli_display_width(key), "",
               (const char *)g_ptr_array_index(pairs->cells, i + 1));
    }
    putchar('\n');
    g_ptr_array_unref(pairs->cells);
    g_free(pairs);
}
