import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.File;
import java.io.IOException;
import java.time.Duration;
import java.time.Instant;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import org.apache.kafka.common.serialization.IntegerSerializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.StreamsConfig.InternalConfig;
import org.apache.kafka.streams.TestInputTopic;
import org.apache.kafka.streams.TopologyTestDriver;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.EmitStrategy;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.JoinWindows;
import org.apache.kafka.streams.kstream.KGroupedStream;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.SessionWindows;
import org.apache.kafka.streams.kstream.SlidingWindows;
import org.apache.kafka.streams.kstream.StreamJoined;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.ValueJoiner;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.BuiltInDslStoreSuppliers;
import org.apache.kafka.streams.state.DslKeyValueParams;
import org.apache.kafka.streams.state.DslSessionParams;
import org.apache.kafka.streams.state.DslStoreSuppliers;
import org.apache.kafka.streams.state.DslWindowParams;
import org.apache.kafka.streams.state.KeyValueBytesStoreSupplier;
import org.apache.kafka.streams.state.SessionBytesStoreSupplier;
import org.apache.kafka.streams.state.SessionStore;
import org.apache.kafka.streams.state.Stores;
import org.apache.kafka.streams.state.WindowBytesStoreSupplier;
import org.apache.kafka.streams.state.WindowStore;

/**
 * What Kafka Streams makes of scripts of out-of-order records, one record at a time: every result of
 * windows and of joins, with the record that it came of.
 *
 * <p>Arguments: a file to read, {"scripts": {name: [[topic, key, value, timestamp], ...]}, "cases":
 * [...]}, and a file to write, {case: {script: [result, ...]}}. A result of a window is [record,
 * key, start, end, "count,sum" or null, timestamp], one of a join [record, key, "left|right",
 * timestamp]; `record` is the index in the script.
 */
public final class WindowsAndJoins {
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final Duration EVER = Duration.ofDays(1);

  /** Stores in memory that forget nothing, so that results hang on windows alone. */
  public static final class Kept implements DslStoreSuppliers {
    @Override
    public KeyValueBytesStoreSupplier keyValueStore(DslKeyValueParams params) {
      return Stores.inMemoryKeyValueStore(params.name());
    }

    @Override
    public WindowBytesStoreSupplier windowStore(DslWindowParams params) {
      return Stores.inMemoryWindowStore(
          params.name(), EVER, params.windowSize(), params.retainDuplicates());
    }

    @Override
    public SessionBytesStoreSupplier sessionStore(DslSessionParams params) {
      return Stores.inMemorySessionStore(params.name(), EVER);
    }
  }

  private static final Map<String, DslStoreSuppliers> STORES =
      Map.of("kept", new Kept(), "rocksdb", BuiltInDslStoreSuppliers.ROCKS_DB);

  /** A case's results so far, and the record at work. */
  private static final class Results {
    final ArrayNode rows = JSON.createArrayNode();
    int record;

    void ofWindow(Record<Windowed<String>, String> result) {
      Windowed<String> key = result.key();
      rows.addArray()
          .add(record)
          .add(key.key())
          .add(key.window().start())
          .add(key.window().end())
          .add(result.value())
          .add(result.timestamp());
    }

    void ofJoin(Record<String, String> result) {
      rows.addArray()
          .add(record)
          .add(result.key())
          .add(result.value())
          .add(result.timestamp());
    }
  }

  private interface Seen<K> {
    void accept(Record<K, String> result);
  }

  private static <K> void watch(KStream<K, String> results, Seen<K> seen) {
    results.process(
        () ->
            new ContextualProcessor<K, String, Void, Void>() {
              @Override
              public void process(Record<K, String> result) {
                seen.accept(result);
              }
            });
  }

  private static String added(String total, long count, long sum) {
    String[] parts = total.split(",");
    return (Long.parseLong(parts[0]) + count) + "," + (Long.parseLong(parts[1]) + sum);
  }

  private static String merged(String key, String one, String other) {
    String[] parts = other.split(",");
    return added(one, Long.parseLong(parts[0]), Long.parseLong(parts[1]));
  }

  private static Duration ms(JsonNode spec, String name) {
    return Duration.ofMillis(spec.get(name).longValue());
  }

  private static KTable<Windowed<String>, String> windows(
      KGroupedStream<String, Integer> grouped, JsonNode spec) {
    DslStoreSuppliers stores = STORES.get(spec.get("stores").textValue());
    EmitStrategy emit =
        spec.get("emit").textValue().equals("final")
            ? EmitStrategy.onWindowClose()
            : EmitStrategy.onWindowUpdate();
    Duration grace = ms(spec, "grace_ms");
    if (spec.get("kind").textValue().equals("session")) {
      return grouped
          .windowedBy(SessionWindows.ofInactivityGapAndGrace(ms(spec, "gap_ms"), grace))
          .emitStrategy(emit)
          .aggregate(
              () -> "0,0",
              (key, value, total) -> added(total, 1, value),
              WindowsAndJoins::merged,
              Materialized.<String, String, SessionStore<Bytes, byte[]>>
                      as(stores)
                  .withKeySerde(Serdes.String())
                  .withValueSerde(Serdes.String())
                  .withCachingDisabled());
    }
    var materialized =
        Materialized.<String, String, WindowStore<Bytes, byte[]>>as(
                stores)
            .withKeySerde(Serdes.String())
            .withValueSerde(Serdes.String())
            .withCachingDisabled();
    Duration size = ms(spec, "size_ms");
    if (spec.get("kind").textValue().equals("sliding")) {
      return grouped
          .windowedBy(SlidingWindows.ofTimeDifferenceAndGrace(size, grace))
          .emitStrategy(emit)
          .aggregate(() -> "0,0", (key, value, total) -> added(total, 1, value), materialized);
    }
    return grouped
        .windowedBy(TimeWindows.ofSizeAndGrace(size, grace).advanceBy(ms(spec, "advance_ms")))
        .emitStrategy(emit)
        .aggregate(() -> "0,0", (key, value, total) -> added(total, 1, value), materialized);
  }

  private static KStream<String, String> joined(
      KStream<String, Integer> left, KStream<String, Integer> right, JsonNode spec) {
    JoinWindows windows =
        JoinWindows.ofTimeDifferenceAndGrace(ms(spec, "before_ms"), ms(spec, "grace_ms"))
            .before(ms(spec, "before_ms"))
            .after(ms(spec, "after_ms"));
    StreamJoined<String, Integer, Integer> with =
        StreamJoined.with(Serdes.String(), Serdes.Integer(), Serdes.Integer())
            .withDslStoreSuppliers(STORES.get(spec.get("stores").textValue()));
    ValueJoiner<Integer, Integer, String> joiner = (one, other) -> one + "|" + other;
    return switch (spec.get("kind").textValue()) {
      case "inner" -> left.join(right, joiner, windows, with);
      case "left" -> left.leftJoin(right, joiner, windows, with);
      case "outer" -> left.outerJoin(right, joiner, windows, with);
      default -> throw new IllegalArgumentException("no such kind: " + spec);
    };
  }

  private static Properties settings(String folder) {
    Properties settings = new Properties();
    settings.put(StreamsConfig.APPLICATION_ID_CONFIG, "expected");
    settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, "nowhere:9092");
    settings.put(StreamsConfig.STATE_DIR_CONFIG, folder);
    // Both only spare work, once a second of wall-clock time; here each record's results are wanted.
    settings.put(InternalConfig.EMIT_INTERVAL_MS_KSTREAMS_WINDOWED_AGGREGATION, 0L);
    settings.put(InternalConfig.EMIT_INTERVAL_MS_KSTREAMS_OUTER_JOIN_SPURIOUS_RESULTS_FIX, 0L);
    return settings;
  }

  private static ArrayNode run(JsonNode spec, JsonNode script, String folder) {
    StreamsBuilder builder = new StreamsBuilder();
    Consumed<String, Integer> numbers = Consumed.with(Serdes.String(), Serdes.Integer());
    Results results = new Results();
    boolean join = spec.has("before_ms");
    if (join) {
      watch(
          joined(builder.stream("left", numbers), builder.stream("right", numbers), spec),
          results::ofJoin);
    } else {
      // Windows take the records of both topics alike.
      var grouped =
          builder.stream("both", numbers)
              .groupByKey(Grouped.with(Serdes.String(), Serdes.Integer()));
      watch(windows(grouped, spec).toStream(), results::ofWindow);
    }
    try (var driver =
        new TopologyTestDriver(builder.build(), settings(folder), Instant.ofEpochMilli(0))) {
      Map<String, TestInputTopic<String, Integer>> topics = new TreeMap<>();
      for (JsonNode record : script) {
        String topic = join ? record.get(0).textValue() : "both";
        topics
            .computeIfAbsent(
                topic,
                name ->
                    driver.createInputTopic(name, new StringSerializer(), new IntegerSerializer()))
            .pipeInput(
                record.get(1).textValue(), record.get(2).intValue(), record.get(3).longValue());
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

  private WindowsAndJoins() {}
}
