// The table of modules and their parameters, as texts.
#include "compat/old_modules.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

namespace masq {
namespace {

using nlohmann::json;

enum class Takes { ports, number };

struct Parameter {
  const char* name;
  Takes takes;
};

struct Known {
  const char* name;
  std::vector<Parameter> parameters;
  bool bare_ports = false;  // a list without `ports=` is one of ports
};

// Parameters as the last kernels of the 2.2 series had them.
const std::vector<Known>& known_modules() {
  static const std::vector<Known> all = {
      {"ip_masq_ftp",
       {{"ports", Takes::ports},
        {"in_ports", Takes::ports},
        {"noport", Takes::ports},
        {"mark", Takes::number},
        {"in_mark", Takes::number},
        {"debug", Takes::number}}},
      {"ip_masq_irc",
       {{"ports", Takes::ports}, {"insecure", Takes::number}, {"debug", Takes::number}}},
      {"ip_masq_raudio", {{"ports", Takes::ports}, {"debug", Takes::number}}},
      // Users wrote the list in every way; the original took only what its version happened to
      // take.
      {"ip_masq_quake", {{"ports", Takes::ports}, {"debug", Takes::number}}, true},
      {"ip_masq_cuseeme", {{"ports", Takes::ports}, {"debug", Takes::number}}},
      {"ip_masq_vdolive", {{"ports", Takes::ports}, {"debug", Takes::number}}},
      {"ip_masq_user", {{"debug", Takes::number}}},
      {"ip_masq_portfw", {{"debug", Takes::number}}},
      {"ip_masq_autofw", {{"debug", Takes::number}}},
      {"ip_masq_mfw", {{"debug", Takes::number}}},
  };
  return all;
}

const Known* find_known(const std::string& name) {
  for (const Known& known : known_modules())
    if (known.name == name) return &known;
  return nullptr;
}

std::string parameters_of(const Known& known) {
  std::string names;
  for (std::size_t i = 0; i < known.parameters.size(); ++i) {
    if (i > 0) names += i + 1 == known.parameters.size() ? " and " : ", ";
    names += known.parameters[i].name;
  }
  return names;
}

// C notation, as the original took it: 21, 0x15, 025.
bool read_number(std::string_view word, u32& number) {
  int base = 10;
  if (word.starts_with("0x") || word.starts_with("0X")) {
    base = 16;
    word.remove_prefix(2);
  } else if (word.size() > 1 && word[0] == '0') {
    base = 8;
    word.remove_prefix(1);
  }
  auto [end, fault] = std::from_chars(word.data(), word.data() + word.size(), number, base);
  return fault == std::errc() && end == word.data() + word.size() && !word.empty();
}

Result<std::vector<u32>> values_of(const std::string& module, const Parameter& parameter,
                                   const std::string& text) {
  std::vector<u32> values;
  for (std::size_t at = 0; at <= text.size();) {
    std::size_t end = std::min(text.find(',', at), text.size());
    std::string word = text.substr(at, end - at);
    at = end + 1;
    u32 value = 0;
    bool is_port = parameter.takes == Takes::ports;
    if (!read_number(word, value) || (is_port && (value == 0 || value > 0xffff)))
      return error("{} of {}: `{}` is not a {}.", parameter.name, module, word,
                   is_port ? "port from 1 to 65535" : "number");
    values.push_back(value);
  }
  std::size_t most = parameter.takes == Takes::ports ? kModulePortsMost : 1;
  if (values.size() > most)
    return error("{} takes at most {} value{} for {}, and here are {}.", module, most,
                 most == 1 ? "" : "s", parameter.name, values.size());
  return values;
}

}  // namespace

bool is_masq_module(const std::string& name) {
  return find_known(name) != nullptr;
}

Result<LoadedModule> module_with(const std::string& name, const std::vector<std::string>& words) {
  const Known* known = find_known(name);
  if (known == nullptr) return error("masq has no module {}.", name);
  LoadedModule module{name, {}};
  for (const std::string& word : words) {
    std::size_t equals = word.find('=');
    std::string key = equals == std::string::npos ? "" : word.substr(0, equals);
    std::string text = equals == std::string::npos ? word : word.substr(equals + 1);
    if (key.empty() && known->bare_ports) key = "ports";
    auto parameter = std::find_if(known->parameters.begin(), known->parameters.end(),
                                  [&](const Parameter& each) { return key == each.name; });
    if (key.empty())
      return error("{} does not understand `{}`; a parameter is written NAME=VALUE.", name, word);
    if (parameter == known->parameters.end())
      return error("{} has no parameter {}; it knows {}.", name, key, parameters_of(*known));
    Result<std::vector<u32>> values = values_of(name, *parameter, text);
    if (!values) return values.error();
    module.parameters[key] = *values;
  }
  return module;
}

std::string modules_to_json(const std::vector<LoadedModule>& modules) {
  json all = json::array();
  for (const LoadedModule& module : modules) {
    json parameters = json::object();
    for (const auto& [key, values] : module.parameters) parameters[key] = values;
    all.push_back({{"module", module.name}, {"parameters", parameters}});
  }
  return all.dump(2) + "\n";
}

Result<std::vector<LoadedModule>> modules_from_json(const std::string& text) {
  std::vector<LoadedModule> modules;
  if (text.empty()) return modules;
  json all = json::parse(text, nullptr, false);
  if (!all.is_array()) return error("The table of modules cannot be read.");
  for (const json& entry : all) {
    if (!entry.is_object() || !entry.contains("module") || !entry["module"].is_string() ||
        !entry.contains("parameters") || !entry["parameters"].is_object())
      return error("The table of modules cannot be read.");
    // As words once more, so that nothing comes in here that a command would refuse.
    std::vector<std::string> words;
    for (const auto& [key, values] : entry["parameters"].items()) {
      std::string list;
      if (!values.is_array()) return error("The table of modules cannot be read.");
      for (const json& value : values) {
        if (!value.is_number_unsigned()) return error("The table of modules cannot be read.");
        list += (list.empty() ? "" : ",") + std::to_string(value.get<u64>());
      }
      words.push_back(key + "=" + list);
    }
    Result<LoadedModule> module = module_with(entry["module"], words);
    if (!module) return module.error();
    if (std::any_of(modules.begin(), modules.end(),
                    [&](const LoadedModule& each) { return each.name == module->name; }))
      return error("The table of modules has {} twice.", module->name);
    modules.push_back(*module);
  }
  return modules;
}

}  // namespace masq
