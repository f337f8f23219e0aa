// Appends batches to RocksDB, one synced write each, and says how long each took.
//
// Usage: rocksdb-wal FOLDER PAYLOAD_BYTES. Each line of standard input is a number of entries to
// append as one batch; the answer is a line with the nanoseconds until it was durable.

#include <chrono>
#include <cstdint>
#include <iostream>
#include <memory>
#include <string>

#include "rocksdb/db.h"
#include "rocksdb/options.h"
#include "rocksdb/write_batch.h"

namespace {

// Keys sort by their index.
std::string KeyOf(std::uint64_t index) {
  std::string key(8, '\0');
  for (int byte = 0; byte < 8; ++byte) {
    key[7 - byte] = static_cast<char>(index >> (8 * byte));
  }
  return key;
}

int Fail(const std::string& what) {
  std::cerr << "rocksdb-wal: " << what << std::endl;
  return 1;
}

}  // namespace

int main(int argument_count, char** arguments) {
  if (argument_count != 3) {
    return Fail("a folder and the length of payloads are needed");
  }
  std::string payload(std::stoul(arguments[2]), '\0');
  for (std::size_t number = 0; number < payload.size(); ++number) {
    payload[number] = static_cast<char>(number * 7 + 1);
  }
  rocksdb::Options options;
  options.create_if_missing = true;
  std::unique_ptr<rocksdb::DB> database;
  const rocksdb::Status opened = rocksdb::DB::Open(options, arguments[1], &database);
  if (!opened.ok()) {
    return Fail(opened.ToString());
  }
  rocksdb::WriteOptions durable;
  durable.sync = true;
  std::uint64_t next = 1;
  std::uint64_t count = 0;
  while (std::cin >> count) {
    const auto started = std::chrono::steady_clock::now();
    rocksdb::WriteBatch batch;
    for (std::uint64_t number = 0; number < count; ++number) {
      batch.Put(KeyOf(next++), payload);
    }
    const rocksdb::Status status = database->Write(durable, &batch);
    const auto took = std::chrono::steady_clock::now() - started;
    if (!status.ok()) {
      return Fail(status.ToString());
    }
    std::cout << std::chrono::duration_cast<std::chrono::nanoseconds>(took).count() << std::endl;
  }
  return 0;
}
