import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.zip.CRC32;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Joined;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Repartitioned;
import org.apache.kafka.streams.kstream.TableJoined;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.processor.StreamPartitioner;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;
import org.apache.kafka.streams.state.VersionedBytesStoreSupplier;
import org.apache.kafka.streams.state.WindowStore;

/** The operators of tables, and windows over orders by another key; see OperatorStreams. */
final class TableStreams {
  /** An order.created as joins read it. */
  public static final class OrderEvent extends OperatorStreams.Timed {
    public OrderData data;
  }

  /** Its data. */
  @JsonIgnoreProperties(ignoreUnknown = true)
  public static final class OrderData {
    public String order_id;
    public String user_id;
    public BigDecimal amount;
  }

  /** An order.created whose products are asked for. */
  public static final class Sale extends OperatorStreams.Timed {
    public SaleData data;
  }

  /** Its data. */
  @JsonIgnoreProperties(ignoreUnknown = true)
  public static final class SaleData {
    public BigDecimal amount;
    public List<Item> items;
  }

  /** What was bought. */
  @JsonIgnoreProperties(ignoreUnknown = true)
  public static final class Item {
    public String product_id;
  }

  /** What became of a user. */
  public static final class UserEvent extends OperatorStreams.Timed {
    public String event_type;
    public Long sequence;
  }

  /** What is kept of an order: its id, or the user that it names, and its cents. */
  public record Order(String name, long cents) {}

  private static final Serde<Order> ORDER = OperatorStreams.json(Order.class);

  static final Set<String> OPERATORS =
      Set.of("stream-table", "versioned", "table-table", "foreign-key", "repartition");

  /** Returns the results of an operator of these. */
  static KStream<String, OperatorStreams.Result> results(
      StreamsBuilder builder, String operator, Properties settings) {
    return switch (operator) {
      case "stream-table" ->
          withUser(
              builder, users(builder, table("users", Serdes.Long())), Joined.with(null, null, null));
      case "versioned" -> versioned(builder, settings);
      case "table-table" -> tables(builder);
      case "foreign-key" -> foreignKey(builder);
      default -> repartitioned(builder, settings);
    };
  }

  private static <V> Materialized<String, V, KeyValueStore<Bytes, byte[]>> table(
      String name, Serde<V> values) {
    return Materialized.<String, V, KeyValueStore<Bytes, byte[]>>as(name)
        .withKeySerde(Serdes.String())
        .withValueSerde(values)
        .withCachingEnabled();
  }

  private static KTable<String, Long> users(
      StreamsBuilder builder, Materialized<String, Long, KeyValueStore<Bytes, byte[]>> as) {
    return OperatorStreams.events(builder, "users", UserEvent.class)
        .mapValues(event -> event.event_type.equals("user.deleted") ? null : event.sequence)
        .toTable(as);
  }

  private static KStream<String, OperatorStreams.Result> withUser(
      StreamsBuilder builder, KTable<String, Long> users, Joined<String, Order, Long> how) {
    return OperatorStreams.events(builder, "orders", OrderEvent.class)
        .mapValues(
            event -> new Order(event.data.order_id, OperatorStreams.cents(event.data.amount)))
        .leftJoin(
            users,
            (order, user) -> new OperatorStreams.Result(order.name(), 0, 0, order.cents(), user),
            how.withKeySerde(Serdes.String()).withValueSerde(ORDER))
        .selectKey((user, result) -> result.key());
  }

  private static KStream<String, OperatorStreams.Result> versioned(
      StreamsBuilder builder, Properties settings) {
    VersionedBytesStoreSupplier store =
        Stores.persistentVersionedKeyValueStore(
            "users", OperatorStreams.millis(settings, "bench.size.ms"));
    KTable<String, Long> users =
        users(
            builder,
            Materialized.<String, Long>as(store)
                .withKeySerde(Serdes.String())
                .withValueSerde(Serdes.Long()));
    Duration grace = OperatorStreams.millis(settings, "bench.grace.ms");
    return withUser(
        builder, users, Joined.<String, Order, Long>as("joined").withGracePeriod(grace));
  }

  private static OperatorStreams.Result changed(String key, Long order, Long user) {
    return new OperatorStreams.Result(key, 0, 0, order, user);
  }

  // A change that deletes has no value: it is told without both sides.
  private static KStream<String, OperatorStreams.Result> changes(
      KTable<String, Long[]> joined) {
    return joined
        .toStream()
        .mapValues(
            (key, both) ->
                both == null ? changed(key, null, null) : changed(key, both[0], both[1]));
  }

  private static KStream<String, OperatorStreams.Result> tables(StreamsBuilder builder) {
    KTable<String, Long> orders =
        OperatorStreams.events(builder, "orders", OrderEvent.class)
            .mapValues(event -> OperatorStreams.cents(event.data.amount))
            .toTable(table("orders", Serdes.Long()));
    return changes(
        orders.join(
            users(builder, table("users", Serdes.Long())),
            (order, user) -> new Long[] {order, user}));
  }

  /** As the inputs' producers hash keys. */
  private static <V> StreamPartitioner<String, V> crc32() {
    return (topic, key, value, partitions) -> {
      CRC32 crc = new CRC32();
      crc.update(key.getBytes(StandardCharsets.UTF_8));
      return Optional.of(Set.of((int) (crc.getValue() % partitions)));
    };
  }

  private static KStream<String, OperatorStreams.Result> foreignKey(StreamsBuilder builder) {
    KTable<String, Order> orders =
        OperatorStreams.events(builder, "orders", OrderEvent.class)
            .mapValues(
                event -> new Order(event.data.user_id, OperatorStreams.cents(event.data.amount)))
            .toTable(table("orders", ORDER));
    return changes(
        orders.join(
            users(builder, table("users", Serdes.Long())),
            Order::name,
            (order, user) -> new Long[] {order.cents(), user},
            TableJoined.with(crc32(), crc32())));
  }

  private static KStream<String, OperatorStreams.Result> repartitioned(
      StreamsBuilder builder, Properties settings) {
    TimeWindows windows =
        TimeWindows.ofSizeAndGrace(
            OperatorStreams.millis(settings, "bench.size.ms"),
            OperatorStreams.millis(settings, "bench.grace.ms"));
    return OperatorStreams.told(
        OperatorStreams.events(builder, "orders", Sale.class)
            .map(
                (user, event) ->
                    KeyValue.pair(
                        event.data.items.get(0).product_id,
                        OperatorStreams.cents(event.data.amount)))
            .repartition(
                Repartitioned.with(Serdes.String(), Serdes.Long()).withName("orders-by-product"))
            .groupByKey(Grouped.with(Serdes.String(), Serdes.Long()))
            .windowedBy(windows)
            .aggregate(
                OperatorStreams.Counted::new,
                OperatorStreams::add,
                Materialized.<String, OperatorStreams.Counted, WindowStore<Bytes, byte[]>>as(
                        "windows")
                    .withKeySerde(Serdes.String())
                    .withValueSerde(OperatorStreams.json(OperatorStreams.Counted.class))
                    .withCachingEnabled()));
  }

  private TableStreams() {}
}
