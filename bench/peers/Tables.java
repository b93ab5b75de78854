import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.File;
import java.io.IOException;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.function.Function;
import org.apache.kafka.common.serialization.IntegerSerializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.TestInputTopic;
import org.apache.kafka.streams.TopologyTestDriver;
import org.apache.kafka.streams.kstream.Branched;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Joined;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Named;
import org.apache.kafka.streams.kstream.Suppressed;
import org.apache.kafka.streams.kstream.Suppressed.BufferConfig;
import org.apache.kafka.streams.kstream.ValueJoiner;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * What Kafka Streams makes of scripts of out-of-order records, one record at a time: every result of
 * joins with tables, of suppression and of split and merged streams, with the record that it came of.
 *
 * <p>Arguments: a file to read, {"scripts": {name: [[topic, key, value, timestamp], ...]}, "cases":
 * [...]}, where a value may be null, and a file to write, {case: {script: [result, ...]}}. A result is
 * [record, key, "left|right" or null, timestamp]; `record` is the index in the script. The foreign key of
 * a left value is the one of "a", "b", "c", "nowhere" and none that its remainder by 5 says.
 */
public final class Tables {
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final List<String> FOREIGN_KEYS = List.of("a", "b", "c", "nowhere");
  private static final Consumed<String, Integer> NUMBERS =
      Consumed.with(Serdes.String(), Serdes.Integer());
  private static final ValueJoiner<Integer, Integer, String> JOINER =
      (left, right) -> left + "|" + right;

  /** A case's results so far, and the record at work. */
  private static final class Results {
    final ArrayNode rows = JSON.createArrayNode();
    int record;

    void watch(KStream<String, String> results) {
      results.process(
          () ->
              new ContextualProcessor<String, String, Void, Void>() {
                @Override
                public void process(Record<String, String> result) {
                  rows.addArray()
                      .add(record)
                      .add(result.key())
                      .add(result.value())
                      .add(result.timestamp());
                }
              });
    }
  }

  private static Duration ms(JsonNode spec, String name) {
    return Duration.ofMillis(spec.get(name).longValue());
  }

  private static KTable<String, Integer> table(
      StreamsBuilder builder, JsonNode spec, String topic) {
    if (spec.has("history_ms")) {
      return builder.table(
          topic,
          NUMBERS,
          Materialized.as(
              Stores.persistentVersionedKeyValueStore(
                  topic + "-store", ms(spec, "history_ms"), Duration.ofMillis(2))));
    }
    return builder.table(
        topic,
        NUMBERS,
        Materialized.<String, Integer, KeyValueStore<Bytes, byte[]>>as(topic + "-store")
            .withCachingDisabled());
  }

  private static String foreignKey(Integer left) {
    int which = left % 5;
    return which < FOREIGN_KEYS.size() ? FOREIGN_KEYS.get(which) : null;
  }

  private static KStream<String, String> withStream(StreamsBuilder builder, JsonNode spec) {
    KStream<String, Integer> left = builder.stream("left", NUMBERS);
    Joined<String, Integer, Integer> with =
        Joined.with(Serdes.String(), Serdes.Integer(), Serdes.Integer());
    KTable<String, Integer> right = table(builder, spec, "right");
    if (spec.has("grace_ms") && spec.get("grace_ms").longValue() > 0) {
      with = with.withGracePeriod(ms(spec, "grace_ms"));
    }
    return spec.get("kind").textValue().equals("inner")
        ? left.join(right, JOINER, with)
        : left.leftJoin(right, JOINER, with);
  }

  private static KStream<String, String> withTable(StreamsBuilder builder, JsonNode spec) {
    KTable<String, Integer> left = table(builder, spec, "left");
    KTable<String, Integer> right = table(builder, spec, "right");
    boolean isForeign = spec.get("operator").textValue().endsWith("foreign-key");
    Function<Integer, String> of = Tables::foreignKey;
    return switch (spec.get("kind").textValue()) {
      case "inner" ->
          isForeign ? left.join(right, of, JOINER).toStream() : left.join(right, JOINER).toStream();
      case "left" ->
          isForeign
              ? left.leftJoin(right, of, JOINER).toStream()
              : left.leftJoin(right, JOINER).toStream();
      case "outer" -> left.outerJoin(right, JOINER).toStream();
      default -> throw new IllegalArgumentException("no such kind: " + spec);
    };
  }

  /** One table of both topics' records, told at most once a key and time limit. */
  private static KStream<String, String> suppressed(StreamsBuilder builder, JsonNode spec) {
    return builder.stream(List.of("left", "right"), NUMBERS)
        .toTable(
            Materialized.<String, Integer, KeyValueStore<Bytes, byte[]>>as("store")
                .withKeySerde(Serdes.String())
                .withValueSerde(Serdes.Integer())
                .withCachingDisabled())
        .suppress(Suppressed.untilTimeLimit(ms(spec, "limit_ms"), BufferConfig.unbounded()))
        .toStream()
        .mapValues(value -> value == null ? null : value + "|null");
  }

  /** Both topics' values, merged, and split by threes, else by twos; the right side says which it is. */
  private static KStream<String, String> split(StreamsBuilder builder) {
    Map<String, KStream<String, Integer>> branches =
        builder.<String, Integer>stream("left", NUMBERS)
            .merge(builder.stream("right", NUMBERS))
            .filter((key, value) -> value != null)
            .split(Named.as("by-"))
            .branch((key, value) -> value % 3 == 0, Branched.as("3"))
            .branch((key, value) -> value % 2 == 0, Branched.as("2"))
            .defaultBranch(Branched.as("1"));
    return branches
        .get("by-3")
        .mapValues(value -> value + "|3")
        .merge(branches.get("by-2").mapValues(value -> value + "|2"))
        .merge(branches.get("by-1").mapValues(value -> value + "|1"));
  }

  private static KStream<String, String> results(StreamsBuilder builder, JsonNode spec) {
    return switch (spec.get("operator").textValue()) {
      case "stream-table", "stream-versioned" -> withStream(builder, spec);
      case "suppression" -> suppressed(builder, spec);
      case "split" -> split(builder);
      default -> withTable(builder, spec);
    };
  }

  private static Properties settings(String folder) {
    Properties settings = new Properties();
    settings.put(StreamsConfig.APPLICATION_ID_CONFIG, "expected");
    settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, "nowhere:9092");
    settings.put(StreamsConfig.STATE_DIR_CONFIG, folder);
    settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 0);
    settings.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
    settings.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.IntegerSerde.class);
    return settings;
  }

  private static ArrayNode run(JsonNode spec, JsonNode script, String folder) {
    StreamsBuilder builder = new StreamsBuilder();
    Results results = new Results();
    results.watch(results(builder, spec));
    try (var driver =
        new TopologyTestDriver(builder.build(), settings(folder), Instant.ofEpochMilli(0))) {
      Map<String, TestInputTopic<String, Integer>> topics = new TreeMap<>();
      for (JsonNode record : script) {
        Integer value = record.get(2).isNull() ? null : record.get(2).intValue();
        topics
            .computeIfAbsent(
                record.get(0).textValue(),
                name ->
                    driver.createInputTopic(name, new StringSerializer(), new IntegerSerializer()))
            .pipeInput(record.get(1).textValue(), value, record.get(3).longValue());
        results.record += 1;
      }
    }
    return results.rows;
  }

  public static void main(String[] args) throws IOException {
    JsonNode asked = JSON.readTree(new File(args[0]));
    String folder = new File(args[1]).getAbsoluteFile().getParent() + "/state";
    ObjectNode answer = JSON.createObjectNode();
    for (JsonNode spec : asked.get("cases")) {
      ObjectNode of = answer.putObject(spec.get("name").textValue());
      for (Map.Entry<String, JsonNode> script : asked.get("scripts").properties()) {
        of.set(script.getKey(), run(spec, script.getValue(), folder));
      }
    }
    JSON.writeValue(new File(args[1]), answer);
  }

  private Tables() {}
}
