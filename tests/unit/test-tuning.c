/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The numbers of colo-tune: what is taken, what is refused and how. */
#include "util/tuning.h"

#include "util/error.h"

static JsonObject *json(const char *text)
{
    JsonObject *object = colo_json_parse(text, strlen(text), NULL);

    g_assert_nonnull(object);
    return object;
}

static void same(const ColoTuning *a, const ColoTuning *b)
{
    g_autoptr(JsonObject) one = colo_tuning_to_json(a);
    g_autoptr(JsonObject) other = colo_tuning_to_json(b);

    g_assert_cmpstr(json_object_to_json_string(one), ==, json_object_to_json_string(other));
}

/* @text is refused with @message, and nothing has changed. */
static void refused(const char *text, const char *message)
{
    const ColoTuning before = COLO_TUNING_DEFAULT;
    ColoTuning tuning = COLO_TUNING_DEFAULT;
    g_autoptr(JsonObject) object = json(text);
    g_autoptr(GError) error = NULL;

    g_assert_false(colo_tuning_update(&tuning, object, &error));
    g_assert_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG);
    g_assert_cmpstr(error->message, ==, message);
    same(&tuning, &before);
}

static void test_what_is_named_changes(void)
{
    ColoTuning tuning = COLO_TUNING_DEFAULT;
    g_autoptr(JsonObject) object =
        json("{\"mode\":\"periodic\",\"period-max-ms\":70,\"domain\":\"web1\"}");
    g_autoptr(JsonObject) all = NULL;

    g_assert_true(colo_tuning_is_named(object));
    g_assert_true(colo_tuning_update(&tuning, object, NULL));
    all = colo_tuning_to_json(&tuning);
    g_assert_cmpstr(json_object_to_json_string_ext(all, JSON_C_TO_STRING_PLAIN), ==,
                    "{\"mode\":\"periodic\",\"unanswered-min-ms\":2,\"unanswered-max-ms\":50,"
                    "\"period-min-ms\":5,\"period-max-ms\":70,\"pause-share\":50}");
}

static void test_nothing_named(void)
{
    g_autoptr(JsonObject) object = json("{\"domain\":\"web1\"}");

    g_assert_false(colo_tuning_is_named(object));
}

static void test_goes_round(void)
{
    const ColoTuning first = {COLO_TUNING_COMPARE, 3, 30, 7, 700, 20};
    ColoTuning second = COLO_TUNING_DEFAULT;
    g_autoptr(JsonObject) object = colo_tuning_to_json(&first);

    g_assert_true(colo_tuning_update(&second, object, NULL));
    same(&second, &first);
}

static void test_refused(void)
{
    refused("{\"mode\":\"sometimes\"}",
            "mode must be 'auto', 'compare' or 'periodic', found 'sometimes'");
    refused("{\"pause-share\":91}", "pause-share must be 1 to 90, found 91");
    refused("{\"pause-share\":0}", "pause-share must be 1 to 90, found 0");
    refused("{\"period-min-ms\":0}", "period-min-ms must be 1 to 60000, found 0");
    refused("{\"mode\":\"compare\",\"unanswered-min-ms\":51}",
            "unanswered-min-ms 51 is greater than unanswered-max-ms 50: change both");
    refused("{\"period-max-ms\":4}",
            "period-min-ms 5 is greater than period-max-ms 4: change both");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/tuning/named", test_what_is_named_changes);
    g_test_add_func("/tuning/nothing", test_nothing_named);
    g_test_add_func("/tuning/round", test_goes_round);
    g_test_add_func("/tuning/refused", test_refused);
    return g_test_run();
}
