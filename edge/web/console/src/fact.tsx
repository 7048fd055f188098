// One line of what is known of a customer or a session.

/** A name and its value; nothing when there is none. */
export function Fact({ name, value }: { name: string; value: string }) {
  if (value === "") return null;
  return (
    <div>
      <dt>{name}</dt>
      <dd dir="auto">{value}</dd>
    </div>
  );
}
