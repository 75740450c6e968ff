// The words of the command line: see arguments.h.
#include <stdbool.h>
#include <string.h>

#include "arguments.h"
#include "semihosting.h"

const char *arguments_line(void) {
    static char line[ARGUMENTS_MOST_BYTES];
    static bool is_read;
    if (!is_read) {
        is_read = true;
        if (!semihosting_command_line(line, sizeof(line))) {
            line[0] = '\0';
        }
    }
    return line;
}

const char *arguments_find(const char *name, size_t *size) {
    size_t name_size = strlen(name);
    for (const char *word = arguments_line(); *word;) {
        const char *space = strchr(word, ' ');
        size_t word_size = space ? (size_t)(space - word) : strlen(word);
        if (word_size > name_size && word[name_size] == '=' && memcmp(word, name, name_size) == 0) {
            *size = word_size - name_size - 1;
            return word + name_size + 1;
        }
        word += space ? word_size + 1 : word_size;
    }
    return NULL;
}

unsigned long arguments_number(const char *name, unsigned long otherwise) {
    size_t size;
    const char *value = arguments_find(name, &size);
    if (value == NULL) {
        return otherwise;
    }
    unsigned long number = 0;
    for (size_t i = 0; i < size && value[i] >= '0' && value[i] <= '9'; i++) {
        number = 10 * number + (value[i] - '0');
    }
    return number;
}
