// The text of a script: carriage returns, the first line, and in which line a command stands.
#include "compat/script_text.h"

#include <gtest/gtest.h>

namespace masq {
namespace {

using Lines = std::vector<unsigned>;

TEST(ScriptText, CarriageReturnsAtTheEndsOfLinesAreEaten) {
  EXPECT_EQ(without_carriage_returns("#!/bin/sh\r\necho a\r\n"), "#!/bin/sh\necho a\n");
  EXPECT_EQ(without_carriage_returns("a\r\r\nb"), "a\nb");
  EXPECT_EQ(without_carriage_returns("a\r"), "a");
  EXPECT_EQ(without_carriage_returns("\r\n\r\n"), "\n\n");
}

TEST(ScriptText, CarriageReturnsWithinALineStay) {
  EXPECT_EQ(without_carriage_returns("printf 'a\rb'\n"), "printf 'a\rb'\n");
  EXPECT_EQ(without_carriage_returns(""), "");
}

TEST(ScriptText, FirstLineNamesTheInterpreter) {
  EXPECT_EQ(interpreter_of("#!/bin/sh\necho\n"), "/bin/sh");
  EXPECT_EQ(interpreter_of("#! /bin/bash -e\n"), "/bin/bash");
  EXPECT_EQ(interpreter_of("#!/bin/sh"), "/bin/sh");
  EXPECT_EQ(interpreter_of("echo\n"), "");
  EXPECT_EQ(interpreter_of("#!\n"), "");
  EXPECT_EQ(interpreter_of(" #!/bin/sh\n"), "");
}

TEST(ScriptText, CommandIsFoundByItsWords) {
  const std::string text =
      "#!/bin/sh\n"
      "ipchains -F forward   # ipchains -X\n"
      "/sbin/ipchains -A forward -s -j MASQ\n"
      "echo ipchains -A forward -s -j MASQ\n";
  EXPECT_EQ(lines_of_command(text, {"ipchains", "-F", "forward"}), Lines{2});
  EXPECT_EQ(lines_of_command(text, {"/sbin/ipchains", "-A", "forward", "-s", "-j", "MASQ"}),
            Lines{3});
  EXPECT_EQ(lines_of_command(text, {"ipchains", "-X"}), Lines{});
  EXPECT_EQ(lines_of_command(text, {"ipchains", "-F"}), Lines{});
  EXPECT_EQ(lines_of_command(text, {}), Lines{});
}

TEST(ScriptText, VariablesAreFollowed) {
  const std::string text =
      "IPCHAINS=/sbin/ipchains\n"
      "EXT=\"eth0\"\n"
      "ANY=\"0/0 -d 0/0\"\n"
      "$IPCHAINS -A input -i $EXT -s $ANY -j DENY\n"
      "EXT=eth1\n"
      "${IPCHAINS} -A input -i ${EXT} -s $ANY -j DENY\n";
  auto words = [](const char* interface) {
    return std::vector<std::string>{
        "/sbin/ipchains", "-A", "input", "-i", interface, "-s", "0/0", "-d", "0/0", "-j", "DENY"};
  };
  EXPECT_EQ(lines_of_command(text, words("eth0")), Lines{4});
  EXPECT_EQ(lines_of_command(text, words("eth1")), Lines{6});
  // No value that is known leads there: then every value may.
  EXPECT_EQ(lines_of_command(text, words("eth2")), (Lines{4, 6}));
}

TEST(ScriptText, WhatCannotBeKnownFitsEverything) {
  const std::string text =
      "EXTIP=`ifconfig eth0 | grep inet`\n"
      "for net in 10.0.0.0/8 192.168.0.0/16; do ipchains -A input -s $net -j DENY; done\n"
      "ipchains -A input -d $EXTIP 80 -j ACCEPT\n"
      "ipchains -A output -s \"$1\" -j $(target)\n";
  EXPECT_EQ(lines_of_command(text, {"ipchains", "-A", "input", "-s", "10.0.0.0/8", "-j", "DENY"}),
            Lines{2});
  EXPECT_EQ(lines_of_command(text, {"ipchains", "-A", "input", "-d", "80", "-j", "ACCEPT"}),
            Lines{3});
  EXPECT_EQ(
      lines_of_command(text, {"ipchains", "-A", "input", "-d", "1.2.3.4", "80", "-j", "ACCEPT"}),
      Lines{3});
  EXPECT_EQ(lines_of_command(text, {"ipchains", "-A", "output", "-s", "a b", "-j", "DENY"}),
            Lines{4});
  EXPECT_EQ(lines_of_command(text, {"ipchains", "-A", "output", "-s", "-j", "DENY"}), Lines{});
}

TEST(ScriptText, ShellAroundACommandIsReadOver) {
  const std::string text =
      "if [ -x /sbin/ipchains ]; then\n"
      "  ipchains -A input -p tcp \\\n"
      "    -y -j DENY 2> /dev/null >&1\n"
      "fi\n"
      "test -f x && ! ipchains -X || exec modprobe ip_masq_ftp > log\n"
      "(LANG=C ipchains -A input -s 'any/0' -j 'MASQ') &\n";
  EXPECT_EQ(lines_of_command(text, {"ipchains", "-A", "input", "-p", "tcp", "-y", "-j", "DENY"}),
            Lines{2});
  EXPECT_EQ(lines_of_command(text, {"ipchains", "-X"}), Lines{5});
  EXPECT_EQ(lines_of_command(text, {"modprobe", "ip_masq_ftp"}), Lines{5});
  EXPECT_EQ(lines_of_command(text, {"ipchains", "-A", "input", "-s", "any/0", "-j", "MASQ"}),
            Lines{6});
}

TEST(ScriptText, OddTextIsNoHarm) {
  for (const char* text : {"'", "\"", "`", "$(", "${", "$", "\\", "a\\", "<", "echo $((", "\"$"})
    EXPECT_EQ(lines_of_command(text, {"ipchains", "-X"}), Lines{}) << text;
  std::string stars;
  for (int i = 0; i < 200; ++i) stars += "$a$b ";
  EXPECT_EQ(lines_of_command("x " + stars, std::vector<std::string>(300, "x")), Lines{});
  std::string longest(1000, 'x');
  EXPECT_EQ(lines_of_command("a " + longest, {"a", longest}), Lines{1});
  EXPECT_EQ(lines_of_command("a x" + longest, {"a", "x" + longest}), Lines{});
}

TEST(ScriptText, LinesWithAWordWithoutComments) {
  EXPECT_EQ(lines_with("a\n# ip_forward\n echo 1 > /proc/ip_forward\n", "ip_forward"), Lines{3});
}

TEST(ScriptText, LinesAreNamedInWords) {
  EXPECT_EQ(lines_in_words({}), "");
  EXPECT_EQ(lines_in_words({12}), "line 12");
  EXPECT_EQ(lines_in_words({12, 40}), "line 12 or 40");
  EXPECT_EQ(lines_in_words({12, 40, 41}), "line 12, 40 or 41");
  EXPECT_EQ(lines_in_words({12, 40, 41, 50}), "line 12, 40, 41 or another");
}

TEST(ScriptText, WordsAreQuotedForAShell) {
  EXPECT_EQ(in_shell_words({"ipchains", "-A", "input", "-s", "!", "10.0.0.0/8"}),
            "ipchains -A input -s ! 10.0.0.0/8");
  EXPECT_EQ(in_shell_words({"a", "", "b c", "it's", "\x1b[1m"}), "a '' 'b c' 'it'\\''s' '?[1m'");
}

}  // namespace
}  // namespace masq
